package relay_test

import (
	"context"
	"flag"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
)

var builds = flag.Int("builds", 300, "how many circuits TestNothingIsLeft builds")

// TestNothingIsLeft builds circuits, uses and ends them in different ways, and
// finds goroutines and heap as they were.
func TestNothingIsLeft(t *testing.T) {
	fast := relay.Limits{Creates: 1e6, PerTarget: 1e6, Queries: 1e6, Opens: 1e6, Joins: 1e6}
	n := newNet(t, relaytest.Config{Relays: 6, Limits: fast, Far: func(int) relay.Far { return sized{} }})
	w := standing(t, n, 5, 4, 3)
	go func() {
		for {
			c, err := w.listen.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				io.Copy(io.Discard, c) // until the reader leaves
				c.Close()
			}()
		}
	}()
	ctx := context.Background()
	b := n.Builder()
	b.Dead = time.Minute
	one := func(i int) {
		p, err := b.Build(ctx, n.Hops(0, 1, 2, 3))
		if err != nil {
			t.Error(err)
			return
		}
		switch i % 4 {
		case 0:
			_, err = p.Ask(ctx, []byte{1, 2})
		case 1:
			var c *relay.Conn
			if c, err = p.Join(ctx, w.s.Keys(), w.join, []byte("first")); err == nil && i%8 == 1 {
				err = c.Close()
			}
		case 2:
			err = p.Ping(ctx)
		}
		if err != nil {
			t.Errorf("circuit %d: %v", i, err)
		}
		p.Close()
	}
	run := func(count int) {
		var wg sync.WaitGroup
		next := make(chan int)
		for range 8 {
			wg.Go(func() {
				for i := range next {
					one(i)
				}
			})
		}
		for i := range count {
			next <- i
		}
		close(next)
		wg.Wait()
		for i := range 6 {
			want := 0
			if i >= 3 {
				want = 1 // the standing path
			}
			for n.Relay(i).Stats().Circuits > want {
				runtime.Gosched()
				time.Sleep(time.Millisecond)
			}
		}
	}
	measure := func() (goroutines int, heap uint64) {
		runtime.GC()
		runtime.GC() // what pools held, too
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	run(100)
	g1, h1 := measure()
	run(*builds)
	g2, h2 := measure()
	for deadline := time.Now().Add(10 * time.Second); g2 > g1 && time.Now().Before(deadline); g2, h2 = measure() {
		time.Sleep(10 * time.Millisecond) // the last ones are on their way out
	}
	t.Logf("%d circuits: %d goroutines, then %d; heap %d KiB, then %d", *builds, g1, g2, h1>>10, h2>>10)
	if g2 > g1 {
		t.Errorf("goroutines: %d, then %d", g1, g2)
	}
	// Replay caches keep their entries as long as the onion keys.
	if most := h1 + 1<<20 + uint64(*builds)*6*64; h2 > most {
		t.Errorf("heap: %d KiB, then %d, want at most %d", h1>>10, h2>>10, most>>10)
	}
	if got := relay.Held(n.Relay(3)); got != 0 {
		t.Errorf("the gateway holds %d frames", got)
	}
}
