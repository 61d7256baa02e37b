package node

import (
	"flag"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

var crowdSize = flag.Int("crowd", 300, "circuits in the tests with real processes; 10000 takes minutes")

// crowdRates is for a machine that does nothing else: other tests beside these
// slow one half of a comparison and not the other. The same bounds are held in
// virtual time by tests of relay.
var crowdRates = flag.Bool("crowd-rates", false, "judge rates and times in the tests with real processes, too")

// judgeRate fails the test if a rate or time is out of its bounds and these
// count in this run; else it logs that.
func judgeRate(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	switch {
	case ok:
	case *crowdRates:
		t.Errorf(format, args...)
	default:
		t.Logf(format, args...)
	}
}

// TestIdleCrowd: as many idle circuits as a relay promises to hold come
// through one node, from a hundred neighbours and on to ten relays, all of
// them real hosts of several processes. None is refused, the node stays within
// a GiB, and when they are gone so is all that they cost.
func TestIdleCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	n := *crowdSize
	neighbours, next := max(10, n/100), max(2, n/1000)
	node := startCrowd(t, crowdSetup{Role: crowdNode, Limits: patient(relay.Limits{})})
	first := node.ask(t, crowdAsk{Op: "descriptors"}).Relays[0]
	onward := startCrowd(t, crowdSetup{Role: crowdRelays, Hosts: next, Limits: patient(relay.Limits{})})
	var ways [][][]byte
	for _, d := range onward.ask(t, crowdAsk{Op: "descriptors"}).Relays {
		ways = append(ways, [][]byte{first, d})
	}
	users := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: neighbours})
	// Connections stay: they are part of the start.
	warm := crowdAsk{Op: "build", Ways: ways, N: neighbours * next, At: 16}
	if got := users.ask(t, warm); got.Failed > 0 {
		t.Fatalf("%d of the first %d paths failed: %v", got.Failed, warm.N, got.Why)
	}
	users.ask(t, crowdAsk{Op: "close"})
	before := awaitCircuits(t, node, 0)

	start := time.Now()
	got := users.ask(t, crowdAsk{Op: "build", Ways: ways, N: n, At: 64})
	t.Logf("%d built in %v", n-got.Failed, time.Since(start).Round(time.Millisecond))
	if got.Failed > 0 {
		t.Errorf("%d of %d circuits were refused though the limits allow them: %v", got.Failed, n, got.Why)
	}
	busy := node.look(t)
	if n >= 1000 { // idle until each has given some signs of life, which cost a frame each way
		const signs = 3
		eventually(t, 10*time.Minute, "signs of life", func() bool {
			return node.look(t).Relayed-busy.Relayed >= uint64(2*signs*n*wire.RecordSize)
		})
	}
	idle := node.look(t)
	if a := users.ask(t, crowdAsk{Op: "alive", At: 64}); a.N != n {
		t.Errorf("%d of %d circuits live: %v", a.N, n, a.Why)
	}
	full := node.use(t)
	if full.Circuits != n {
		t.Errorf("the node holds %d circuits, want %d", full.Circuits, n)
	}
	t.Logf("resident: %d MiB before, %d MiB when built, %d MiB idle, %d MiB at most", before.RSS>>20, busy.RSS>>20, idle.RSS>>20, full.Peak>>20)
	t.Logf("each: heap %d B, stacks %d B, %.2f goroutines",
		(full.Heap-before.Heap)/int64(n), (full.Stack-before.Stack)/int64(n), float64(full.Goroutines-before.Goroutines)/float64(n))
	if full.Peak > 1<<30 {
		t.Errorf("the node took %d MiB for %d idle circuits, want at most 1024", full.Peak>>20, n)
	}
	users.ask(t, crowdAsk{Op: "close"})
	backAtStart(t, "node", node, before, 0, n)
}

// patient gives a machine that does the work of all the others time for it.
func patient(l relay.Limits) relay.Limits {
	l.Hello, l.SetUp = time.Minute, 2*time.Minute
	return l
}
