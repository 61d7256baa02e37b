package fetch

import (
	"bytes"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache"
	"wanderfs/cache/chunk"
)

// trusting is a store that takes the word of who has verified, as a node's
// does; it tells of what does not match all the same.
type trusting struct {
	*cache.Cache
	t    *testing.T
	puts atomic.Int32
}

func (s *trusting) Put(r chunk.Ref, data []byte) error {
	if err := r.Verify(data); err != nil {
		s.t.Errorf("unverified bytes enter the store: %v", err)
	}
	s.puts.Add(1)
	return s.PutVerified(r, data)
}

// A chunk is hashed once on its way in, by the task; the store takes its word
// and never gets anything else, whoever lies.
func TestHashedOnceOnTheWayIn(t *testing.T) {
	c := newContent(t, 12<<20, 65)
	for _, lies := range []bool{false, true} {
		store, err := cache.Open(cache.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		s := &trusting{Cache: store, t: t}
		var hashed, wrong atomic.Int32
		synctest.Test(t, func(t *testing.T) {
			good := newPublisher(t, c.blocks)
			good.latency, good.rate = 50*time.Millisecond, 10e6
			pubs := []*publisher{good}
			if lies {
				liar := newPublisher(t, c.blocks)
				liar.rate = 10e6
				liar.lie = func(r chunk.Ref, b []byte) []byte {
					if r == c.leaves[0] || r == c.leaves[5] {
						b = bytes.Clone(b)
						b[1000]++
					}
					return b
				}
				pubs = []*publisher{liar, good}
			}
			within(t, Config{Store: s}, pubs, func(f *Fetcher) {
				f.hash = func(r chunk.Ref, b []byte) error {
					hashed.Add(1)
					err := r.Verify(b)
					if err != nil {
						wrong.Add(1)
					}
					return err
				}
				if err := c.readAll(t.Context(), f, 128<<10); err != nil {
					t.Error(err)
				}
			})
		})
		if got, want := hashed.Load()-wrong.Load(), int32(len(c.blocks)); got != want {
			t.Errorf("lies %v: hashed %d times, want each of %d chunks once", lies, got, want)
		}
		if got, want := s.puts.Load(), int32(len(c.blocks)); got != want {
			t.Errorf("lies %v: %d puts, want %d", lies, got, want)
		}
		if lies && wrong.Load() == 0 {
			t.Error("nobody lied")
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A drive gives a read up when Progress has not moved for 30 s. On a slow path
// it moves although one chunk takes minutes; on a dead one it does not.
func TestProgressOfASlowPath(t *testing.T) {
	const limit = 30 * time.Second
	c := newContent(t, 3<<20, 66)
	for _, frozen := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPublisher(t, c.blocks)
			p.latency, p.rate = 200*time.Millisecond, 5e3 // 105 s a chunk over two routes
			within(t, Config{Store: newMemStore()}, []*publisher{p}, func(f *Fetcher) {
				x, err := f.Open(t.Context(), c.root, c.root)
				if err != nil {
					t.Fatal(err)
				}
				defer x.Close()
				p.mu.Lock()
				p.refuse = frozen
				p.mu.Unlock()
				time.Sleep(time.Second) // dials that had begun are over
				p.each(func(h *half) { h.freeze(frozen) })
				start := time.Now()
				done := make(chan error, 1)
				b := make([]byte, 64<<10)
				go func() {
					_, err := x.ReadAt(t.Context(), b, 1<<20)
					done <- err
				}()
				seen, still := x.Progress(), 0
				for {
					select {
					case err = <-done:
					case <-time.After(limit):
						if now := x.Progress(); now == seen {
							still++
						} else {
							seen = now
						}
						continue
					}
					break
				}
				took := time.Since(start)
				switch {
				case !frozen && (err != nil || !bytes.Equal(b, c.data[1<<20:1<<20+len(b)])):
					t.Errorf("a slow path failed after %v: %v", took, err)
				case !frozen && (took < 2*limit || still > 0):
					t.Errorf("took %v, and was still %d times for %v: want longer, and moving", took, still, limit)
				case frozen && err == nil:
					t.Error("a dead path gave bytes")
				case frozen && still == 0:
					t.Error("the counter moves on a dead path")
				}
			})
		})
	}
}
