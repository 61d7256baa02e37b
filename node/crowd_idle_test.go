package node

import (
	"flag"
	"testing"
	"time"

	"wanderfs/relay"
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
	busy := node.ask(t, crowdAsk{Op: "look"}).Use
	for range n / 1000 { // idle for a while, with all their signs of life
		time.Sleep(5 * time.Second)
	}
	idle := node.ask(t, crowdAsk{Op: "look"}).Use
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

// awaitCircuits waits until the process holds n circuits, and for their
// goroutines to be gone.
func awaitCircuits(t testing.TB, p *crowdProcess, n int) crowdUse {
	t.Helper()
	var got crowdUse
	eventually(t, time.Minute, "circuits to end", func() bool {
		got = p.ask(t, crowdAsk{Op: "look"}).Use
		return got.Circuits <= n
	})
	return p.use(t)
}

// backAtStart holds what a process uses after n circuits against what it used
// before, once the last ones are on their way out. What keys, buckets and
// replay caches remember may stay, and the room of maps that were full: less
// than 1 KiB for each, where a circuit takes 25. Of the 15 MiB that stay after
// ten thousand a heap profile gives most to the runtime, which keeps what
// described a goroutine and uses it again, and to timers that have yet to fire. A
// second ten thousand in the same process added 1 MiB; 20 s later 2 MiB less
// were left than after the first.
func backAtStart(t testing.TB, what string, p *crowdProcess, before crowdUse, circuits, n int) {
	t.Helper()
	goroutines, heap := before.Goroutines+8, before.Heap+6<<20+int64(n)<<10
	var after crowdUse
	for end := time.Now().Add(time.Minute); ; {
		after = awaitCircuits(t, p, circuits)
		if after.Goroutines <= goroutines && after.Heap <= heap || time.Now().After(end) {
			break
		}
		time.Sleep(time.Second)
	}
	t.Logf("%s: goroutines %d, then %d; heap %d KiB, then %d; stacks %d KiB, then %d", what,
		before.Goroutines, after.Goroutines, before.Heap>>10, after.Heap>>10, before.Stack>>10, after.Stack>>10)
	if after.Goroutines > goroutines {
		t.Errorf("%s: goroutines: %d, then %d", what, before.Goroutines, after.Goroutines)
	}
	if after.Heap > heap {
		t.Errorf("%s: heap: %d KiB, then %d, want at most %d", what, before.Heap>>10, after.Heap>>10, heap>>10)
	}
}

// patient gives a machine that does the work of all the others time for it.
func patient(l relay.Limits) relay.Limits {
	l.Hello, l.SetUp = time.Minute, 2*time.Minute
	return l
}
