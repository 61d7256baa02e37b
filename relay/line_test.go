package relay_test

import (
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// TestLineOnASlowLink has four bulk circuits and an interactive one share the
// slow link between a gateway and a relay.
func TestLineOnASlowLink(t *testing.T) {
	const (
		rate  = 2e6
		frame = time.Second * wire.FrameSize / rate
		bulk  = 4
	)
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, relaytest.Config{Relays: 2 + bulk + 1, Rate: rate, Shared: true, Limits: fast})
		var readers, publishers []*relay.Conn
		for i := range bulk + 1 {
			w := standing(t, n, 2+i, 1)
			w.read = build(t, n, 0, 1)
			r, p := w.meet(t, nil)
			readers, publishers = append(readers, r), append(publishers, p)
		}
		var wg sync.WaitGroup
		echo := publishers[bulk]
		wg.Go(func() {
			var x [1]byte
			for {
				if _, err := io.ReadFull(echo, x[:]); err != nil {
					return
				}
				echo.Write(x[:])
			}
		})
		trip := func() time.Duration {
			var x [1]byte
			start := time.Now()
			readers[bulk].Write(x[:])
			if _, err := io.ReadFull(readers[bulk], x[:]); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		trip()
		time.Sleep(5 * time.Second)
		idle := trip()

		got := make([]int, bulk)
		stop := time.Now().Add(20 * time.Second)
		for i := range bulk {
			wg.Go(func() {
				for time.Now().Before(stop) {
					if _, err := publishers[i].Write(make([]byte, 256<<10)); err != nil {
						return
					}
				}
			})
			wg.Go(func() {
				buf := make([]byte, 64<<10)
				for time.Now().Before(stop) {
					m, err := readers[i].Read(buf)
					if err != nil {
						return
					}
					got[i] += m
				}
			})
		}
		time.Sleep(3 * time.Second)
		var worst time.Duration
		for range 40 {
			time.Sleep(337 * time.Millisecond)
			worst = max(worst, trip())
		}
		for i := range readers { // what waits is worth no more time
			readers[i].Close()
			publishers[i].Close()
		}
		wg.Wait()
		waited := float64(worst-idle) / float64(frame)
		t.Logf("an interactive frame waits for at most %.1f others; bulk circuits got %v", waited, got)
		if waited > 12 {
			t.Errorf("got %.1f frames ahead of an interactive one, want at most 12", waited)
		}
		sum := 0
		for _, g := range got {
			sum += g
		}
		for i, g := range got {
			if share := float64(g) * bulk / float64(sum); share < 0.85 || share > 1.15 {
				t.Errorf("circuit %d got %.2f of an equal share, want within 15 %%", i, share)
			}
		}
	})
}

// writer is a stream of a connection that sends at once, or never.
type writer struct {
	t     *relay.Line
	stuck chan struct{} // nil: never stuck
	n     int
}

func (w *writer) Write(p []byte) (int, error) {
	if w.stuck != nil {
		<-w.stuck
	}
	w.n += len(p)
	return len(p), nil
}

// TestLineStuckStreams has streams whose windows are shut: they must not hold
// what the others need.
func TestLineStuckStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := relay.NewLine(0)
		shut := make(chan struct{})
		var wg sync.WaitGroup
		for range 20 {
			c := turns.Place()
			wg.Go(func() { c.Write(&writer{t: turns, stuck: shut}, make([]byte, wire.FrameSize)) })
		}
		time.Sleep(time.Second)
		c, w := turns.Place(), &writer{t: turns}
		start := time.Now()
		for range 100 {
			if _, err := c.Write(w, make([]byte, wire.FrameSize)); err != nil {
				t.Fatal(err)
			}
			turns.Sent(wire.FrameSize)
		}
		if took := time.Since(start); took > 50*time.Millisecond {
			t.Errorf("100 frames took %v beside streams that are stuck, want next to nothing", took)
		}
		close(shut)
		wg.Wait()
	})
}

func TestLineEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := relay.NewLine(1)
		w := &writer{t: turns}
		if _, err := turns.Place().Write(w, []byte{1}); err != nil {
			t.Fatal(err)
		}
		c := turns.Place()
		c.SetDeadline(time.Now().Add(time.Second))
		start := time.Now()
		if n, err := c.Write(w, []byte{1}); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %d, %v after %v, want a passed deadline after 1s", n, err, time.Since(start))
		}
		c.SetDeadline(time.Time{})
		time.AfterFunc(time.Second, c.Close)
		if n, err := c.Write(w, []byte{1}); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %d, %v from a turn closed while it waits, want io.ErrClosedPipe", n, err)
		}
		turns.Sent(1) // those that left have left no hole
		if _, err := turns.Place().Write(w, []byte{1}); err != nil || w.n != 2 {
			t.Errorf("got %v and %d bytes, want no error and 2", err, w.n)
		}
	})
}

func TestLineCostNoAllocation(t *testing.T) {
	turns := relay.NewLine(0)
	c, w := turns.Place(), &writer{t: turns}
	p := make([]byte, wire.FrameSize)
	if got := testing.AllocsPerRun(1000, func() {
		c.Write(w, p)
		turns.Sent(len(p))
	}); got != 0 {
		t.Errorf("got %v allocations a frame, want 0", got)
	}
}

func BenchmarkLine(b *testing.B) {
	turns := relay.NewLine(0)
	c, w := turns.Place(), &writer{t: turns}
	p := make([]byte, wire.FrameSize)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(w, p)
		turns.Sent(len(p))
	}
}
