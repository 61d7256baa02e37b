package relay_test

import (
	"bytes"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
)

// What disjoint circuits are measured with; a MB is a million bytes.
const (
	disjointRate    = 20_000_000 // bytes a second of each link
	disjointLatency = 20 * time.Millisecond
	disjointLeast   = 55.0 // MB/s of four
	disjointEach    = 0.9  // of a link's rate, one alone
)

// disjoint makes ways that share no relay, each with a stream.
func disjoint(t testing.TB, ways int, latency time.Duration) (rs, ps []*relay.Conn, close func()) {
	n := newNet(t, relaytest.Config{Relays: 6 * ways, Latency: latency, Rate: disjointRate})
	var all []*way
	for i := range ways {
		k := 6 * i
		w := standing(t, n, k+5, k+4, k+3)
		w.read = build(t, n, k, k+1, k+2, k+3)
		r, p := w.meet(t, nil)
		rs, ps, all = append(rs, r), append(ps, p), append(all, w)
	}
	return rs, ps, func() {
		for i, w := range all {
			rs[i].Close()
			ps[i].Close()
			w.read.Close()
			w.pub.Close()
		}
		n.Close()
	}
}

// carry sends size bytes over each of the streams, verifies them, and gives
// the MB a second that came, of all together, from the first byte sent to the
// last one read.
func carry(t testing.TB, rs, ps []*relay.Conn, size int) float64 {
	var wg sync.WaitGroup
	start := time.Now()
	for i := range rs {
		wg.Go(func() {
			src := mrand.NewChaCha8([32]byte{byte(i)})
			b := make([]byte, 64<<10)
			for left := size; left > 0; left -= len(b) {
				src.Read(b)
				if _, err := ps[i].Write(b); err != nil {
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			src := mrand.NewChaCha8([32]byte{byte(i)})
			got, want := make([]byte, 64<<10), make([]byte, 64<<10)
			for left := size; left > 0; left -= len(got) {
				if _, err := io.ReadFull(rs[i], got); err != nil {
					t.Error(err)
					return
				}
				if src.Read(want); !bytes.Equal(got, want) {
					t.Error("wrong bytes")
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(len(rs)*size) / 1e6 / time.Since(start).Seconds()
}

const carried = 640 * 64 << 10 // bytes over each circuit: 42 MB

// TestWindows: the windows of streams and links, and the steps in which credit
// is given back, keep seven links full: time is virtual, so that no machine is
// too slow.
func TestWindows(t *testing.T) {
	t.Parallel()
	for _, latency := range []time.Duration{disjointLatency, 50 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			rs, ps, end := disjoint(t, 1, latency)
			defer end()
			first := carry(t, rs, ps, carried)
			again := carry(t, rs, ps, carried)
			// The first byte takes all of the way, the others follow.
			full := carried / 1e6 / (float64(carried)/disjointRate + 7*latency.Seconds())
			t.Logf("links of %v: %.1f MB/s, then %.1f; full links give %.1f", latency, first, again, full)
			if again < 0.97*full || first < 0.75*full {
				t.Errorf("links of %v: got %.1f MB/s, then %.1f, want nearly %.1f", latency, first, again, full)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		rs, ps, end := disjoint(t, 4, disjointLatency)
		defer end()
		got := carry(t, rs, ps, carried/2)
		t.Logf("four circuits: %.1f MB/s", got)
		if got < disjointLeast {
			t.Errorf("four circuits: got %.1f MB/s, want at least %.0f", got, disjointLeast)
		}
	})
}

// BenchmarkDisjoint carries verified bytes over circuits that share no relay,
// in real time, all layers included: six relays each, links of 20 ms and 20
// MB/s. Nothing is left after it.
func BenchmarkDisjoint(b *testing.B) {
	for _, ways := range []int{1, 4} {
		b.Run(fmt.Sprintf("circuits=%d", ways), func(b *testing.B) {
			goroutines, heap := left()
			var sum float64
			before := cpu()
			for range b.N {
				rs, ps, end := disjoint(b, ways, disjointLatency)
				sum += carry(b, rs, ps, 2*carried)
				end()
			}
			got := sum / float64(b.N)
			b.ReportMetric(got, "MB/s")
			b.ReportMetric((cpu()-before).Seconds()/(float64(b.N*ways*2*carried)/(1<<30)), "cpu-s/GiB")
			least := disjointLeast
			if ways == 1 {
				least = disjointEach * disjointRate / 1e6
			}
			b.ReportMetric(least, "MB/s-goal")
			deadline := time.Now().Add(10 * time.Second)
			g, h := left()
			for ; g > goroutines && time.Now().Before(deadline); g, h = left() {
				time.Sleep(10 * time.Millisecond)
			}
			if g > goroutines {
				b.Errorf("goroutines: %d, then %d", goroutines, g)
			}
			if h > heap+4<<20 {
				b.Errorf("heap: %d KiB, then %d", heap>>10, h>>10)
			}
		})
	}
}

// left gives how many goroutines there are, and the bytes of the heap in use.
func left() (goroutines int, heap uint64) {
	runtime.GC()
	runtime.GC() // what pools held, too
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapAlloc
}
