package node

import (
	"testing"
	"time"

	"wanderfs/relay"
)

// TestStalledCrowd: readers join sessions over circuits through one node and
// take nothing, while the publishers send all that they may. The node's memory
// keeps its bounds, and who reads beside them keeps the rate.
func TestStalledCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	n := *crowdSize
	limits := patient(relay.Limits{})
	hosts, sessions := max(10, n/100), max(2, n/500)
	if n < 10000 { // as much in proportion
		limits.Pool = int64(n) * 128 << 20 / 10000
		limits.Memory = 64 << 20
		limits.Stalled = max(4, n*64/10000)
	}
	full := limits.WithDefaults()
	node := startCrowd(t, crowdSetup{Role: crowdNode, Limits: limits})
	first := node.ask(t, crowdAsk{Op: "descriptors"}).Relays[0]
	onward := startCrowd(t, crowdSetup{Role: crowdRelays, Hosts: 2, Limits: patient(roomyLimits())})
	gateways := onward.ask(t, crowdAsk{Op: "descriptors"}).Relays
	publishers := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 2})
	stalling := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: hosts, Window: 256 << 10})
	reading := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 1})
	var stands, ways [][][]byte
	for i := range sessions {
		stands = append(stands, [][]byte{gateways[i%2]})
		ways = append(ways, [][]byte{first, gateways[i%2]})
	}
	joined := publishers.ask(t, crowdAsk{Op: "publish", Ways: stands}).Sessions
	read := crowdAsk{Op: "read", Ways: ways[:1], Sessions: joined[:1], N: 4, At: 4, Rate: 64 << 10, For: 8 * time.Second}
	sum := func(all []float64) (s float64) {
		for _, r := range all {
			s += r
		}
		return s
	}
	// Connections stay: they are part of the start.
	stalling.ask(t, crowdAsk{Op: "build", Ways: ways, N: 10 * hosts, At: 8})
	stalling.ask(t, crowdAsk{Op: "close"})
	before := awaitCircuits(t, node, 0)
	alone := sum(reading.ask(t, read).Rates)
	start := time.Now()
	stalling.begin(t, crowdAsk{Op: "stall", Ways: ways, Sessions: joined, N: n, At: 32})
	var beside []float64
	most := crowdUse{}
	look := func() {
		u := node.ask(t, crowdAsk{Op: "look"}).Use
		most.RSS, most.Held, most.Circuits = max(most.RSS, u.RSS), max(most.Held, u.Held), max(most.Circuits, u.Circuits)
	}
	done := make(chan crowdTell, 1)
	go func() { done <- stalling.wait(t) }()
	for over := false; !over; {
		reading.begin(t, read)
		for end := time.Now().Add(read.For); time.Now().Before(end); {
			time.Sleep(200 * time.Millisecond)
			look()
		}
		beside = append(beside, sum(reading.wait(t).Rates))
		select {
		case got := <-done:
			over = true
			t.Logf("%d stalled in %v, %d of them ended before they had joined", n, time.Since(start).Round(time.Second), got.Failed)
		default:
		}
	}
	look()
	t.Logf("rate of four who read: %.0f KiB/s alone, %.0f KiB/s beside (median of %d)", alone/1024, median(beside)/1024, len(beside))
	t.Logf("node: at most %d MiB resident, %d KiB of frames of %d KiB, %d circuits", most.RSS>>20, most.Held>>10, full.Pool>>10, most.Circuits)
	least := 0.8 * alone
	judgeRate(t, median(beside) >= least, "beside stalled circuits others have %.0f KiB/s, want at least %.0f", median(beside)/1024, least/1024)
	const slack = 4 << 20 // frames between a full pool and the end of a circuit
	if most.Held > full.Pool+slack {
		t.Errorf("%d bytes of frames held, want at most %d", most.Held, full.Pool)
	}
	if bound := int64(1<<30 + 512<<20); most.RSS > bound {
		t.Errorf("the node took %d MiB, want at most %d", most.RSS>>20, bound>>20)
	}
	stalling.ask(t, crowdAsk{Op: "close"})
	backAtStart(t, "node", node, before, 0, n)
}
