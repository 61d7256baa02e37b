package node

import (
	"testing"
	"time"

	"wanderfs/relay"
)

// stallBound is how much may live in a node within its limits, in bytes: a full
// pool, with all that links hold unread, what circuits cost that do nothing at
// all, and the node itself.
func stallBound(l relay.Limits, circuits int) int64 {
	const (
		idle = 32 << 10 // TestIdleCrowd
		self = 32 << 20
	)
	return l.Pool + int64(circuits)*idle + self
}

// residentBound is how much memory a process takes in which so much lives: as
// much garbage comes on top as the program lets the runtime leave, and next to
// none of it beyond the limit that it gives the runtime.
func residentBound(lives int64) int64 {
	return max(lives, min((100+crowdGarbage)*lives/100, crowdMemory)) + 64<<20
}

// TestStalledCrowd: readers join sessions over circuits through one node, wait
// until all are there, and take nothing when the publishers send all that they
// may: first to a quarter of them, then to the others. The node's memory keeps
// its bounds, who has stalled for longest goes first, and who reads beside
// them keeps the rate.
func TestStalledCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	n := *crowdSize
	// Nobody goes because of his time alone, so that more stall at once than
	// any two cores could otherwise make.
	limits := patient(relay.Limits{PerTarget: 1e6, Idle: time.Hour, Stall: time.Hour})
	hosts, next, sessions := max(10, n/100), max(2, n/1000), max(4, n/250) // a session opens 400 streams at once
	if n < 10000 {                                                         // as much in proportion, but room for the windows of those who read
		limits.Pool = max(int64(n)*128<<20/10000, 16<<20)
	}
	full := limits.WithDefaults()
	beyond := roomyLimits()
	beyond.Idle, beyond.Stall, beyond.Pool = limits.Idle, limits.Stall, 1<<30 // what comes is for the node to bound
	node := startCrowd(t, crowdSetup{Role: crowdNode, Limits: limits})
	first := node.ask(t, crowdAsk{Op: "descriptors"}).Relays[0]
	onward := startCrowd(t, crowdSetup{Role: crowdRelays, Hosts: next, Limits: patient(beyond)})
	gateways := onward.ask(t, crowdAsk{Op: "descriptors"}).Relays
	publishers := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 2})
	stalling := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: hosts, Window: 256 << 10})
	reading := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 1})
	var stands, ways [][][]byte
	for i := range sessions {
		stands = append(stands, [][]byte{gateways[i%next]})
		ways = append(ways, [][]byte{first, gateways[i%next]})
	}
	publish := func(from, to, wave int) crowdAsk {
		a := publishers.ask(t, crowdAsk{Op: "publish", Ways: stands[from:to], Wave: wave})
		return crowdAsk{Op: "stall", Ways: ways[from:to], Sessions: a.Sessions, At: 32, Dead: time.Hour, Wave: wave}
	}
	honest := publish(0, 1, 0)
	waves := []crowdAsk{publish(0, sessions/4, 1), publish(sessions/4, sessions, 2)}
	waves[0].N, waves[1].N = n/4, n-n/4
	// Connections stay: they are part of the start.
	if got := stalling.ask(t, crowdAsk{Op: "build", Ways: ways, N: next * hosts, At: 16}); got.Failed > 0 {
		t.Errorf("%d of the first %d paths failed: %v", got.Failed, next*hosts, got.Why)
	}
	stalling.ask(t, crowdAsk{Op: "close"})
	before := awaitCircuits(t, node, 0)
	const readers = 4
	reading.ask(t, crowdAsk{Op: "watch", Ways: honest.Ways, Sessions: honest.Sessions, N: readers, Rate: 64 << 10, Dead: crowdWait})
	rate := func(when string, in time.Duration) (sum float64) {
		a := reading.ask(t, crowdAsk{Op: "rates", For: in})
		if len(a.Why) > 0 {
			t.Errorf("%s: some who read were cut off: %v", when, a.Why)
		}
		for _, r := range a.Rates {
			sum += r
		}
		return sum
	}
	const measured = 4 * time.Second
	alone := rate("alone", measured)
	most := crowdUse{}
	look := func() crowdUse {
		u := node.look(t)
		most.Peak, most.Live, most.Held = u.Peak, max(most.Live, u.Live), max(most.Held, u.Held)
		most.Circuits, most.Goroutines = max(most.Circuits, u.Circuits), max(most.Goroutines, u.Goroutines)
		return u
	}
	start := time.Now()
	for _, q := range waves {
		if got := stalling.ask(t, q); got.Failed > 0 {
			t.Errorf("%d of %d could not join: %v", got.Failed, q.N, got.Why)
		}
	}
	u := look()
	t.Logf("%d joined after %v: %d circuits, %d MiB resident", n, time.Since(start).Round(time.Second), u.Circuits, u.RSS>>20)
	if want := n + readers; u.Circuits != want {
		t.Errorf("the node holds %d circuits, want %d", u.Circuits, want)
	}
	var beside []float64
	var left [2]int
	for i, q := range waves {
		rate("before they pour", 0)
		start, cpu := time.Now(), look().CPU
		publishers.ask(t, crowdAsk{Op: "pour", Wave: q.Wave})
		awaitStill(t, "publishers", 0, func() uint64 {
			look()
			return uint64(publishers.ask(t, crowdAsk{Op: "poured"}).N)
		})
		took, pouring := time.Since(start).Round(time.Second), rate("while others pour", 0) // of what they leave to each
		beside = append(beside, rate("beside", measured))
		u, left = look(), stalling.ask(t, crowdAsk{Op: "left"}).Waves
		t.Logf("wave %d of %d stalled in %v: %d and %d circuits are left, %d at the node, which used %v of processor time; %d MiB resident now and %d at most; four who read had %.0f KiB/s meanwhile",
			i+1, q.N, took, left[0], left[1], u.Circuits, (u.CPU - cpu).Round(time.Second), u.RSS>>20, u.Peak>>20, pouring/1024)
	}
	t.Logf("rate of four who read: %.0f KiB/s alone, %.0f KiB/s and %.0f KiB/s beside", alone/1024, beside[0]/1024, beside[1]/1024)
	t.Logf("node: at most %d MiB live, %d MiB resident, %d KiB of frames of %d KiB, %d circuits, %d goroutines",
		most.Live>>20, most.Peak>>20, most.Held>>10, full.Pool>>10, most.Circuits, most.Goroutines)
	least := 0.8 * alone
	judgeRate(t, min(beside[0], beside[1]) >= least, "beside stalled circuits others have %.0f KiB/s, want at least %.0f", min(beside[0], beside[1])/1024, least/1024)
	if left[1] < waves[1].N && left[0] > 0 {
		t.Errorf("%d circuits of the first wave are left, of the second %d have gone: want those who stalled for longest to go first", left[0], waves[1].N-left[1])
	}
	const slack = 4 << 20 // frames between a full pool and the end of a circuit
	if most.Held > full.Pool+slack {
		t.Errorf("%d bytes of frames held, want at most %d", most.Held, full.Pool)
	}
	lives := stallBound(full, n)
	if most.Live > lives {
		t.Errorf("%d MiB live in the node, want at most %d", most.Live>>20, lives>>20)
	}
	if bound := residentBound(lives); most.Peak > bound {
		t.Errorf("the node took %d MiB, want at most %d", most.Peak>>20, bound>>20)
	}
	reading.ask(t, crowdAsk{Op: "close"})
	stalling.ask(t, crowdAsk{Op: "close"})
	backAtStart(t, "node", node, before, 0, n)
}
