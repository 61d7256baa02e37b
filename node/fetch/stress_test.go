package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache"
	"wanderfs/cache/chunk"
)

// Many readers that change their minds, over sources that lie, freeze, die,
// crawl or have only a part: whoever stays gets the right bytes, and nothing
// is left over.
func TestBadWeather(t *testing.T) {
	c := newContent(t, 24<<20, 40)
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				some := make(map[chunk.Ref][]byte)
				for i, r := range c.leaves {
					if i%2 == 0 {
						some[r] = c.blocks[r]
					}
				}
				good, liar, dying, crawler, partial := newPublisher(t, c.blocks), newPublisher(t, c.blocks),
					newPublisher(t, c.blocks), newPublisher(t, c.blocks), newPublisher(t, some)
				pubs := []*publisher{good, liar, dying, crawler, partial}
				for _, p := range pubs {
					p.latency, p.rate = time.Duration(20+rng.IntN(100))*time.Millisecond, 2e6+rng.Float64()*8e6
				}
				liar.lie = func(r chunk.Ref, b []byte) []byte {
					b = bytes.Clone(b)
					b[int(seed)*1000%len(b)]++
					return b
				}
				dying.cut = 1<<20 + rng.IntN(4<<20)
				crawler.rate = 30e3
				rng.Shuffle(len(pubs), func(i, j int) { pubs[i], pubs[j] = pubs[j], pubs[i] })
				within(t, Config{Store: newMemStore()}, pubs, func(f *Fetcher) {
					var wg sync.WaitGroup
					stop := make(chan struct{})
					wg.Go(func() { // now and then somebody freezes for a while
						for on := true; ; on = !on {
							select {
							case <-stop:
								for _, p := range pubs {
									p.each(func(h *half) { h.freeze(false) })
								}
								return
							case <-time.After(1500 * time.Millisecond):
								partial.each(func(h *half) { h.freeze(on) })
							}
						}
					})
					var readers sync.WaitGroup
					for i := range 12 {
						seed := rng.Uint64()
						readers.Go(func() {
							rng := rand.New(rand.NewPCG(seed, 2))
							if i < 3 {
								if err := c.readAll(t.Context(), f, 128<<10); err != nil {
									t.Error(err)
								}
								return
							}
							x, err := f.Open(t.Context(), c.root, c.root)
							if err != nil {
								t.Error(err)
								return
							}
							defer x.Close()
							for range 30 {
								ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(2000))*time.Millisecond)
								b := make([]byte, 1+rng.IntN(300_000))
								off := rng.IntN(len(c.data) - len(b))
								n, err := x.ReadAt(ctx, b, int64(off))
								cancel()
								if !bytes.Equal(b[:n], c.data[off:off+n]) {
									t.Error("wrong bytes")
								}
								if err != nil && !errors.Is(err, context.DeadlineExceeded) {
									t.Error(err)
								}
							}
						})
					}
					readers.Wait()
					close(stop)
					wg.Wait()
					task := f.Task(c.root)
					defer task.Release()
					time.Sleep(40 * time.Second) // what was under way comes in
					task.mu.Lock()
					defer task.mu.Unlock()
					if len(task.fetches)+len(task.demanded)+len(task.ahead)+len(task.wants) != 0 {
						t.Errorf("left: %d fetches, %d demanded, %d ahead, %d wants",
							len(task.fetches), len(task.demanded), len(task.ahead), len(task.wants))
					}
					for _, l := range task.links {
						if l.out != 0 && l.session != crawler.session {
							t.Errorf("%d bytes outstanding on a route", l.out)
						}
					}
					if task.bad[good.session] || task.bad[partial.session] || task.bad[crawler.session] || task.bad[dying.session] {
						t.Error("somebody honest is blamed")
					}
				})
			})
		})
	}
}

// With the real store: what was read is read again without any source.
func TestWithCache(t *testing.T) {
	c := newContent(t, 9<<20+77, 41)
	dir := t.TempDir()
	for i := range 2 {
		store, err := cache.Open(cache.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		p := newPublisher(t, c.blocks)
		fd := &finder{}
		if i == 0 {
			fd = found(p)
		}
		within(t, Config{Store: store, Finder: fd}, []*publisher{p}, func(f *Fetcher) {
			if err := c.readAll(t.Context(), f, 100_000); err != nil {
				t.Error(err)
			}
		})
		if i == 1 && fd.calls != 0 {
			t.Errorf("sources were looked for %d times", fd.calls)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkReadCache(b *testing.B) {
	store, err := cache.Open(cache.Config{Dir: b.TempDir(), Limit: 128 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	benchmarkRead(b, 256<<20, 128<<10, func() Store { return store })
}

var _ Store = (*cache.Cache)(nil)
var _ io.Closer = (*File)(nil)
