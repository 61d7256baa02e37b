package node

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// crowdUse is what a process uses.
type crowdUse struct {
	RSS, Peak  int64 // bytes, resident now and at most
	Live       int64 // bytes of heap that the last collection found to live
	Heap       int64 // the same, after a collection for that
	Stack      int64
	Goroutines int
	CPU        time.Duration
	Circuits   int
	Held       int64 // bytes of frames held for others
	Relayed    uint64
	Taken      uint64 // circuits, so far
	Refused    uint64
}

// use collects, and measures.
func (c *crowdMember) use(u *crowdUse) error {
	var err error
	if *u, err = c.look(); err != nil {
		return err
	}
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Heap, u.Stack = int64(m.HeapAlloc), int64(m.StackInuse)
	return nil
}

// look measures what costs nothing to measure.
func (c *crowdMember) look() (u crowdUse, err error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			u.RSS = n << 10
		case "VmHWM:":
			u.Peak = n << 10
		}
	}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return u, err
	}
	u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	u.Live = int64(live[0].Value.Uint64())
	u.Goroutines = runtime.NumGoroutine()
	_, rs := c.relays()
	for _, r := range rs {
		s := r.Stats()
		u.Circuits += s.Circuits
		u.Relayed += s.Bytes
		u.Held += s.Held
		u.Taken += s.Taken
		u.Refused += s.Refused
	}
	return u, nil
}

// look gives what the process uses, but for its heap.
func (p *crowdProcess) look(t testing.TB) crowdUse {
	t.Helper()
	return p.ask(t, crowdAsk{Op: "look"}).Use
}

// use gives what the process uses, after a collection.
func (p *crowdProcess) use(t testing.TB) crowdUse {
	t.Helper()
	return p.ask(t, crowdAsk{Op: "use"}).Use
}

// awaitCircuits waits until the process holds n circuits at most.
func awaitCircuits(t testing.TB, p *crowdProcess, n int) crowdUse {
	t.Helper()
	eventually(t, time.Minute, "circuits to end", func() bool { return p.look(t).Circuits <= n })
	return p.use(t)
}

// stillFor is how many looks in a row, 50 ms apart, must show the same: as
// long as a busy machine may hold a process up.
const stillFor = 40

// awaitStill waits until what a counter says grows no more, or by so little.
func awaitStill(t testing.TB, what string, slack uint64, count func() uint64) {
	t.Helper()
	last, still := count(), 0
	eventually(t, 20*time.Minute, what+" to stand still", func() bool {
		now := count()
		if now-last > slack {
			last, still = now, 0
		}
		still++
		return still > stillFor
	})
}

// backAtStart holds what a process uses after n circuits against what it used
// before, once the last ones are on their way out. What keys, buckets and
// replay caches remember may stay, and the room of maps that were full: less
// than 1 KiB for each, where a circuit takes 25. Of the 15 MiB that stay after
// ten thousand a heap profile gives most to the runtime, which keeps what
// described a goroutine and uses it again, and to timers that have yet to fire. A
// second ten thousand in the same process added 1 MiB; 20 s later 2 MiB less
// were left than after the first. A whole node has paths and connections of its
// own that come and go: a few goroutines, where ten thousand circuits have
// twenty thousand.
func backAtStart(t testing.TB, what string, p *crowdProcess, before crowdUse, circuits, n int) {
	t.Helper()
	goroutines, heap := before.Goroutines+24, before.Heap+6<<20+int64(n)<<10
	after := awaitCircuits(t, p, circuits)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(time.Minute); after.Goroutines > goroutines || after.Heap > heap; after = p.use(t) {
		select {
		case <-tick.C:
			continue
		case <-end:
		}
		break
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
