package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within runs fn with a Fetcher and closes it and the publishers after.
func within(t *testing.T, cfg Config, pubs []*publisher, fn func(f *Fetcher)) {
	t.Helper()
	if cfg.Finder == nil {
		var routes []Route
		for _, p := range pubs {
			routes = append(routes, p)
		}
		cfg.Finder = found(routes...)
	}
	f := New(cfg)
	fn(f)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for _, p := range pubs {
		p.wg.Wait()
	}
}

func TestReadsFromOneSource(t *testing.T) {
	c := newContent(t, 20<<20+12345, 1)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		p.latency, p.rate = 100*time.Millisecond, 20e6
		within(t, Config{Store: newMemStore()}, []*publisher{p}, func(f *Fetcher) {
			start := time.Now()
			if err := c.readAll(t.Context(), f, 128<<10); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("20 MiB at 20 MB/s and 200 ms round trip took %v", took)
			}
			if got := p.bytes(); got > int64(len(c.data))*51/50 {
				t.Errorf("%d bytes came for %d", got, len(c.data))
			}
		})
	})
}

func TestStripesOverSessions(t *testing.T) {
	c := newContent(t, 64<<20, 2)
	synctest.Test(t, func(t *testing.T) {
		var pubs []*publisher
		for range 4 {
			p := newPublisher(t, c.blocks)
			p.latency, p.rate = 100*time.Millisecond, 10e6
			pubs = append(pubs, p)
		}
		within(t, Config{Store: newMemStore()}, pubs, func(f *Fetcher) {
			start := time.Now()
			if err := c.readAll(t.Context(), f, 128<<10); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			t.Logf("64 MiB over four routes of 10 MB/s: %v", took)
			if took > 4*time.Second {
				t.Errorf("took %v, want the routes' rates to add up", took)
			}
			var total int64
			for _, p := range pubs {
				total += p.bytes()
				if p.bytes() < 4<<20 {
					t.Errorf("a session gave only %d bytes", p.bytes())
				}
			}
			if total > int64(len(c.data))*5/4 {
				t.Errorf("%d bytes came for %d", total, len(c.data))
			}
		})
	})
}

func TestResumesFromStore(t *testing.T) {
	c := newContent(t, 10<<20, 3)
	synctest.Test(t, func(t *testing.T) {
		s := newMemStore()
		p := newPublisher(t, c.blocks)
		within(t, Config{Store: s}, []*publisher{p}, func(f *Fetcher) {
			x, err := f.Open(t.Context(), c.root, c.root)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x.ReadAt(t.Context(), make([]byte, 5<<20), 0); err != nil {
				t.Fatal(err)
			}
			x.Close()
		})
		have := s.len()
		if have < 6 {
			t.Fatalf("%d blocks are kept, want at least 6", have)
		}
		q := newPublisher(t, c.blocks)
		within(t, Config{Store: s}, []*publisher{q}, func(f *Fetcher) {
			if err := c.readAll(t.Context(), f, 1<<20); err != nil {
				t.Fatal(err)
			}
			if got, want := q.loads(), len(c.blocks)-have; got != want {
				t.Errorf("%d blocks asked for after the restart, want %d", got, want)
			}
			synctest.Wait() // for the last to be stored
			if got := f.Cached(t.Context(), c.root); got != 100 {
				t.Errorf("cached %d percent, want 100", got)
			}
		})
		// Complete: no route is needed, not even looked for.
		none := &finder{}
		within(t, Config{Store: s, Finder: none}, nil, func(f *Fetcher) {
			if err := c.readAll(t.Context(), f, 1<<20); err != nil {
				t.Fatal(err)
			}
			if none.calls != 0 {
				t.Errorf("asked for sources %d times", none.calls)
			}
		})
	})
}

func TestLyingSource(t *testing.T) {
	c := newContent(t, 12<<20, 4)
	for _, bits := range []string{"every chunk", "one chunk", "other length"} {
		t.Run(bits, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				good, liar := newPublisher(t, c.blocks), newPublisher(t, c.blocks)
				good.latency, liar.latency = 50*time.Millisecond, 20*time.Millisecond
				good.rate, liar.rate = 5e6, 5e6
				liar.lie = func(r chunk.Ref, b []byte) []byte {
					if bits == "one chunk" && r != c.leaves[7] {
						return b
					}
					if bits == "other length" {
						return b[:len(b)-1]
					}
					b = bytes.Clone(b)
					b[len(b)/2] ^= 1
					return b
				}
				within(t, Config{Store: newMemStore()}, []*publisher{liar, good}, func(f *Fetcher) {
					if err := c.readAll(t.Context(), f, 128<<10); err != nil {
						t.Fatal(err)
					}
					task := f.Task(c.root)
					defer task.Release()
					task.mu.Lock()
					defer task.mu.Unlock()
					if liar.count(c.leaves[7]) > 0 && !task.bad[liar.session] {
						t.Error("the liar is not remembered")
					}
					if task.bad[good.session] {
						t.Error("the good source is blamed")
					}
				})
			})
		})
	}
}

// A part of a split chunk is wrong: nobody knows at first whose.
func TestLyingInARange(t *testing.T) {
	c := newContent(t, 30<<20, 5)
	synctest.Test(t, func(t *testing.T) {
		a, b := newPublisher(t, c.blocks), newPublisher(t, c.blocks)
		a.latency, b.latency = 100*time.Millisecond, 100*time.Millisecond
		a.rate, b.rate = 3e6, 3e6
		within(t, Config{Store: newMemStore()}, []*publisher{a, b}, func(f *Fetcher) {
			task := f.Task(c.root)
			defer task.Release()
			task.Want(c.leaves[:8]) // both prove themselves
			for _, r := range append([]chunk.Ref{c.root}, c.leaves[:8]...) {
				if _, err := task.Get(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			b.mu.Lock()
			b.lie = func(r chunk.Ref, d []byte) []byte {
				d = bytes.Clone(d)
				for i := 0; i < len(d); i += 1000 {
					d[i] ^= 1
				}
				return d
			}
			b.mu.Unlock()
			blamed := func() bool {
				task.mu.Lock()
				defer task.mu.Unlock()
				return task.bad[b.session]
			}
			// The good source may be quick enough to give a chunk alone.
			for _, r := range c.leaves[10:] {
				got, err := task.Get(t.Context(), r)
				if err != nil || !bytes.Equal(got, c.blocks[r]) {
					t.Fatalf("got %d bytes, %v", len(got), err)
				}
				if blamed() {
					break
				}
			}
			task.mu.Lock()
			defer task.mu.Unlock()
			if !task.bad[b.session] || task.bad[a.session] {
				t.Errorf("blamed: liar %v, other %v", task.bad[b.session], task.bad[a.session])
			}
		})
	})
}

func TestFreezingSource(t *testing.T) {
	c := newContent(t, 48<<20, 6)
	synctest.Test(t, func(t *testing.T) {
		a, b := newPublisher(t, c.blocks), newPublisher(t, c.blocks)
		for _, p := range []*publisher{a, b} {
			p.latency, p.rate = 50*time.Millisecond, 8e6
		}
		within(t, Config{Store: newMemStore()}, []*publisher{a, b}, func(f *Fetcher) {
			x, err := f.Open(t.Context(), c.root, c.root)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			buf := make([]byte, 128<<10)
			var worst time.Duration
			for off := 0; off < len(c.data); off += len(buf) {
				if off == 8<<20 {
					a.each(func(h *half) { h.freeze(true) })
					a.mu.Lock()
					a.refuse = true
					a.mu.Unlock()
				}
				at := time.Now()
				if _, err := x.ReadAt(t.Context(), buf, int64(off)); err != nil && err != io.EOF {
					t.Fatal(err)
				}
				worst = max(worst, time.Since(at))
			}
			t.Logf("longest wait %v", worst)
			if worst > 2*time.Second {
				t.Errorf("a read waited %v, want at most 2 s", worst)
			}
		})
	})
}

func TestDyingSources(t *testing.T) {
	c := newContent(t, 48<<20, 7)
	synctest.Test(t, func(t *testing.T) {
		a, b := newPublisher(t, c.blocks), newPublisher(t, c.blocks)
		for _, p := range []*publisher{a, b} {
			p.latency, p.rate = 50*time.Millisecond, 8e6
		}
		a.cut, b.cut = 3<<20+100, 5<<20+1
		within(t, Config{Store: newMemStore()}, []*publisher{a, b}, func(f *Fetcher) {
			if err := c.readAll(t.Context(), f, 128<<10); err != nil {
				t.Fatal(err)
			}
			if a.dials < 3 {
				t.Errorf("%d dials, want routes to be replaced", a.dials)
			}
		})
	})
}

func TestSlowSourceHoldsNobodyBack(t *testing.T) {
	c := newContent(t, 48<<20, 8)
	synctest.Test(t, func(t *testing.T) {
		fast, slow := newPublisher(t, c.blocks), newPublisher(t, c.blocks)
		fast.latency, slow.latency = 50*time.Millisecond, 50*time.Millisecond
		fast.rate, slow.rate = 10e6, 100e3
		within(t, Config{Store: newMemStore()}, []*publisher{slow, fast}, func(f *Fetcher) {
			start := time.Now()
			if err := c.readAll(t.Context(), f, 128<<10); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			t.Logf("48 MiB at 10 MB/s beside a slow source: %v", took)
			if took > 9*time.Second {
				t.Errorf("took %v", took)
			}
		})
	})
}

func TestSingleFlight(t *testing.T) {
	c := newContent(t, 3<<20, 9)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		p.latency = 100 * time.Millisecond
		within(t, Config{Store: newMemStore()}, []*publisher{p}, func(f *Fetcher) {
			task := f.Task(c.root)
			defer task.Release()
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					if i%2 == 0 {
						got, err := task.Get(t.Context(), c.leaves[1])
						if err != nil || !bytes.Equal(got, c.blocks[c.leaves[1]]) {
							t.Errorf("got %d bytes, %v", len(got), err)
						}
						return
					}
					b := make([]byte, 1000)
					n, err := task.ReadRange(t.Context(), c.leaves[1], b, 5000)
					if err != nil || !bytes.Equal(b[:n], c.blocks[c.leaves[1]][5000:6000]) {
						t.Errorf("got %d bytes, %v", n, err)
					}
				})
			}
			wg.Wait()
			if got := p.count(c.leaves[1]); got != 1 {
				t.Errorf("loaded %d times, want 1", got)
			}
		})
	})
}

func TestCancelledReader(t *testing.T) {
	c := newContent(t, 3<<20, 10)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		p.latency, p.rate = 500*time.Millisecond, 1e6
		within(t, Config{Store: newMemStore()}, []*publisher{p}, func(f *Fetcher) {
			task := f.Task(c.root)
			defer task.Release()
			ctx, cancel := context.WithCancel(t.Context())
			first := make(chan error)
			second := make(chan error)
			go func() { _, err := task.Get(ctx, c.leaves[0]); first <- err }()
			go func() { _, err := task.Get(t.Context(), c.leaves[0]); second <- err }()
			synctest.Wait()
			cancel()
			start := time.Now()
			if err := <-first; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want %v", err, context.Canceled)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("cancelling took %v", d)
			}
			if err := <-second; err != nil {
				t.Errorf("the other reader got %v", err)
			}
			if got := p.count(c.leaves[0]); got != 1 {
				t.Errorf("loaded %d times, want 1", got)
			}
			// What nobody wants any more is not sent.
			ctx, cancel = context.WithCancel(t.Context())
			before := p.bytes()
			go func() { _, err := task.Get(ctx, c.leaves[1]); first <- err }()
			go func() { _, err := task.Get(ctx, c.leaves[2]); first <- err }()
			synctest.Wait()
			cancel()
			<-first
			<-first
			time.Sleep(20 * time.Second)
			if got := p.bytes() - before; got > 1<<20+1000 {
				t.Errorf("%d bytes came for nobody", got)
			}
			task.mu.Lock()
			defer task.mu.Unlock()
			if len(task.fetches) != 0 || len(task.demanded) != 0 {
				t.Errorf("%d fetches, %d demanded are left", len(task.fetches), len(task.demanded))
			}
		})
	})
}

func TestNotFound(t *testing.T) {
	c := newContent(t, 1<<20, 11)
	for _, x := range []struct {
		name string
		pubs func(t *testing.T) []*publisher
		want error
		at   time.Duration
	}{
		{"nobody", func(*testing.T) []*publisher { return nil }, ErrNotFound, 10 * time.Second},
		{"unreachable", func(t *testing.T) []*publisher {
			p := newPublisher(t, c.blocks)
			p.refuse = true
			return []*publisher{p}
		}, ErrStalled, 30 * time.Second},
		{"never answers", func(t *testing.T) []*publisher {
			p := newPublisher(t, c.blocks)
			p.serve = func(_ context.Context, conn io.ReadWriteCloser, _ []byte) error {
				_, err := io.Copy(io.Discard, conn)
				return err
			}
			return []*publisher{p}
		}, ErrStalled, 45 * time.Second},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				within(t, Config{Store: newMemStore()}, x.pubs(t), func(f *Fetcher) {
					start := time.Now()
					_, err := f.Open(t.Context(), c.root, c.root)
					took := time.Since(start)
					if !errors.Is(err, x.want) {
						t.Errorf("got %v, want %v", err, x.want)
					}
					if took > x.at+200*time.Millisecond || took < 10*time.Second {
						t.Errorf("took %v, want about %v", took, x.at)
					}
					if f.State(c.root).Err == "" {
						t.Error("State does not say why")
					}
					t.Log(err, "/", f.State(c.root).Err)
				})
			})
		})
	}
}

func TestFinderIsAskedAgain(t *testing.T) {
	c := newContent(t, 3<<20, 12)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		fd := &finder{fn: func(call int) ([]Route, error) {
			if call < 4 {
				return nil, errFake
			}
			return []Route{p}, nil
		}}
		within(t, Config{Store: newMemStore(), Finder: fd}, []*publisher{p}, func(f *Fetcher) {
			if err := c.readAll(t.Context(), f, 1<<20); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func TestAheadIsBounded(t *testing.T) {
	c := newContent(t, 100<<20, 13)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		p.rate = 50e6 // too fast for splitting
		s := newMemStore()
		within(t, Config{Store: s, Ahead: 16 << 20}, []*publisher{p}, func(f *Fetcher) {
			x, err := f.Open(t.Context(), c.root, c.root)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 64<<10)
			read := func(off int) {
				t.Helper()
				if _, err := x.ReadAt(t.Context(), b, int64(off)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
			read(0) // a thumbnailer
			if got := p.loads(); got != 2 {
				t.Errorf("%d blocks loaded for the first 64 KiB, want 2", got)
			}
			for _, off := range []int{50 << 20, 20 << 20, 70 << 20} {
				read(off)
			}
			if got := p.loads(); got != 5 {
				t.Errorf("%d blocks loaded after random reads, want 5", got)
			}
			for off := 0; off < 10<<20; off += len(b) {
				read(off)
			}
			if got := p.loads(); got < 24 || got > 5+26 {
				t.Errorf("%d blocks loaded after 10 MiB, want about 16 MiB more", got)
			}
			x.Close()
			if len(f.Transfers()) != 0 {
				t.Errorf("transfers after the end: %d", len(f.Transfers()))
			}
		})
	})
}

func TestIdleTaskEnds(t *testing.T) {
	c := newContent(t, 2<<20, 14)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		within(t, Config{Store: newMemStore()}, []*publisher{p}, func(f *Fetcher) {
			if err := c.readAll(t.Context(), f, 1<<20); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2*time.Minute + time.Second)
			p.wg.Wait() // its connections ended
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.tasks) != 0 {
				t.Errorf("%d tasks are left", len(f.tasks))
			}
		})
	})
}

func TestCloseWakesReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Config{Finder: &finder{}})
		task := f.Task(chunk.Raw([]byte("x")))
		done := make(chan error)
		go func() { _, err := task.Get(t.Context(), chunk.Raw([]byte("y"))); done <- err }()
		synctest.Wait()
		f.Close()
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want %v", err, ErrClosed)
		}
		if _, err := f.Task(chunk.Raw([]byte("z"))).Get(t.Context(), chunk.Raw([]byte("y"))); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want %v", err, ErrClosed)
		}
		f.Close()
	})
}

func TestFullStore(t *testing.T) {
	c := newContent(t, 20<<20, 15)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		p.latency = 50 * time.Millisecond
		s := newMemStore()
		s.fail = true
		within(t, Config{Store: s}, []*publisher{p}, func(f *Fetcher) {
			if err := c.readAll(t.Context(), f, 128<<10); err != nil {
				t.Fatal(err)
			}
			if got := p.bytes(); got > 2*int64(len(c.data)) {
				t.Errorf("%d bytes came for %d", got, len(c.data))
			}
		})
	})
}

func TestTransfers(t *testing.T) {
	c := newContent(t, 8<<20, 16)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		p.latency, p.rate = 50*time.Millisecond, 1e6
		within(t, Config{Store: newMemStore()}, []*publisher{p}, func(f *Fetcher) {
			x, err := f.Open(t.Context(), c.root, c.root)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			if _, err := x.ReadAt(t.Context(), make([]byte, 3<<20), 0); err != nil {
				t.Fatal(err)
			}
			l := f.Transfers()
			if len(l) != 1 {
				t.Fatalf("%d transfers, want 1", len(l))
			}
			got := l[0]
			if got.Ref != c.root || got.Done != 3<<20 || got.Size != 8<<20 || got.Sources != 1 || got.Rate < 5e5 || got.Rate > 2e6 {
				t.Errorf("got done %d size %d sources %d rate %d", got.Done, got.Size, got.Sources, got.Rate)
			}
		})
	})
}

var _ Route = (*publisher)(nil)
var _ = wire.SessionNumber{}
