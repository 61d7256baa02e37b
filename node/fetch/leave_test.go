package fetch

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// leaver is a publisher whose session ends: it says so, or not, and later cuts
// all connections.
type leaver struct {
	*publisher
	leave chan struct{}
	cut   func()
}

func newLeaver(t *testing.T, c *content) *leaver {
	l := &leaver{publisher: newPublisher(t, c.blocks), leave: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	l.cut = cancel
	t.Cleanup(cancel)
	srv := &Server{Blocks: l.publisher}
	l.serve = func(_ context.Context, conn io.ReadWriteCloser, first []byte) error {
		return srv.ServeUntil(ctx, conn, first, l.leave)
	}
	return l
}

// gaps reads all of c in order and returns the longest wait for bytes after
// the first ones; at is called with the offset before each read.
func gaps(t *testing.T, f *Fetcher, c *content, at func(off int)) (longest time.Duration) {
	t.Helper()
	x, err := f.Open(t.Context(), c.root, c.root)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	p := make([]byte, 256<<10)
	for off := 0; off < len(c.data); {
		at(off)
		begin := time.Now()
		n, err := x.ReadAt(t.Context(), p, int64(off))
		if err != nil && err != io.EOF {
			t.Fatalf("at %d: %v", off, err)
		}
		if off > 0 {
			longest = max(longest, time.Since(begin))
		}
		if !bytes.Equal(p[:n], c.data[off:off+n]) {
			t.Fatal("wrong bytes")
		}
		off += n
	}
	return longest
}

// A session that leaves is succeeded without a pause in the read; without its
// word there is one.
func TestLeavingSessionIsSucceeded(t *testing.T) {
	c := newContent(t, 96<<20, 51)
	for _, says := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			old, next := newLeaver(t, c), newLeaver(t, c)
			var mu sync.Mutex
			over := false
			fi := &finder{fn: func(int) ([]Route, error) {
				time.Sleep(3 * time.Second) // a slow look-up
				mu.Lock()
				defer mu.Unlock()
				if over {
					return []Route{next}, nil
				}
				return []Route{old}, nil
			}}
			for _, p := range []*leaver{old, next} {
				p.latency, p.rate = 50*time.Millisecond, 2e6
			}
			f := New(Config{Finder: fi, Store: newMemStore(), Ahead: 8 << 20})
			asked := 0
			longest := gaps(t, f, c, func(off int) {
				switch {
				case off == 32<<20:
					mu.Lock()
					over = true
					mu.Unlock()
					if says {
						close(old.leave)
					} else {
						old.cut()
					}
				case off == 80<<20:
					asked = old.loads()
				}
			})
			t.Logf("said %v: longest pause %v", says, longest)
			if says {
				if longest > time.Second {
					t.Errorf("a pause of %v", longest)
				}
				if got := old.loads(); got != asked || next.loads() == 0 {
					t.Errorf("the session that left was asked for %d blocks more, its successor for %d", got-asked, next.loads())
				}
				old.each(func(h *half) {
					h.mu.Lock()
					defer h.mu.Unlock()
					if h.err == nil {
						t.Error("a connection to the session that left is open")
					}
				})
			} else if longest < time.Second {
				t.Errorf("without a word the longest pause is %v: the test measures nothing", longest)
			}
			f.Close()
			for _, p := range []*leaver{old, next} {
				p.cut()
				p.wg.Wait()
			}
		})
	}
}

// retiring is a route over sessions of the reader's own, which end.
type retiring struct {
	*publisher
	mu   sync.Mutex
	over chan struct{} // of the present session
	open map[chan struct{}]int
	most int
}

type retiringConn struct {
	io.ReadWriteCloser
	r    *retiring
	over chan struct{}
	once sync.Once
}

func (c *retiringConn) Retired() <-chan struct{} { return c.over }
func (c *retiringConn) Close() error {
	c.once.Do(func() {
		c.r.mu.Lock()
		defer c.r.mu.Unlock()
		c.r.open[c.over]--
	})
	return c.ReadWriteCloser.Close()
}

func (r *retiring) Dial(ctx context.Context, first []byte) (io.ReadWriteCloser, error) {
	r.mu.Lock()
	over := r.over
	r.open[over]++
	r.most = max(r.most, r.open[over])
	r.mu.Unlock()
	conn, err := r.publisher.Dial(ctx, first)
	if err != nil {
		return nil, err
	}
	return &retiringConn{ReadWriteCloser: conn, r: r, over: over}, nil
}

// The reader's own session ends: its routes are built anew beside the old
// ones, which are left when they have brought what was asked of them.
func TestOwnSessionIsSucceeded(t *testing.T) {
	c := newContent(t, 96<<20, 52)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		p.latency, p.rate = 300*time.Millisecond, 1.5e6 // 0.7 s for a chunk: two in a row are no pause yet
		r := &retiring{publisher: p, over: make(chan struct{}), open: make(map[chan struct{}]int)}
		f := New(Config{Finder: found(r, r, r), Store: newMemStore(), Ahead: 8 << 20})
		var old chan struct{}
		longest := gaps(t, f, c, func(off int) {
			switch off {
			case 32 << 20:
				r.mu.Lock()
				old, r.over = r.over, make(chan struct{})
				r.mu.Unlock()
				close(old)
			case 80 << 20:
				r.mu.Lock()
				if r.open[old] != 0 || r.open[r.over] == 0 {
					t.Errorf("%d connections of the old session, %d of the new one", r.open[old], r.open[r.over])
				}
				r.mu.Unlock()
			}
		})
		t.Logf("longest pause %v", longest)
		if longest > 2*time.Second {
			t.Errorf("a pause of %v", longest)
		}
		if r.most > 4 {
			t.Errorf("%d connections of one session", r.most)
		}
		f.Close()
		p.wg.Wait()
	})
}

// Who says twice that he leaves lies; who says it and goes on is believed.
func TestServeSaysOnceThatItLeaves(t *testing.T) {
	c := newContent(t, 3<<20, 53)
	p := newPublisher(t, c.blocks)
	synctest.Test(t, func(t *testing.T) {
		leave := make(chan struct{})
		near, far := newHalf(0, 0), newHalf(0, 0)
		done := make(chan error, 1)
		go func() {
			done <- (&Server{Blocks: p}).ServeUntil(t.Context(), fakeConn{in: near, out: far}, nil, leave)
		}()
		reader := fakeConn{in: far, out: near}
		reader.Write(get(1, c.leaves[0], 0, 10))
		if a, _ := readAnswer(t, reader); a.Status != statusData {
			t.Errorf("got status %d", a.Status)
		}
		close(leave)
		if a, _ := readAnswer(t, reader); a.Status != statusLeaving {
			t.Errorf("got status %d, want %d", a.Status, statusLeaving)
		}
		reader.Write(get(2, c.leaves[1], 0, 10))
		if a, _ := readAnswer(t, reader); a.Status != statusData || a.Tag != 2 {
			t.Errorf("got status %d of %d", a.Status, a.Tag)
		}
		reader.Close()
		<-done
	})
}

// crowded is a route over a session of the reader's own that has room for so
// many paths: another dial waits until one has gone.
type crowded struct {
	*leaver
	slots chan struct{}
}

type crowdedConn struct {
	io.ReadWriteCloser
	slots chan struct{}
	once  sync.Once
}

func (c *crowdedConn) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.ReadWriteCloser.Close()
}

func (r *crowded) Dial(ctx context.Context, first []byte) (io.ReadWriteCloser, error) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	conn, err := r.leaver.Dial(ctx, first)
	if err != nil {
		<-r.slots
		return nil, err
	}
	return &crowdedConn{ReadWriteCloser: conn, slots: r.slots}, nil
}

// A session that leaves is succeeded before it ends also while the reader's own
// session has as many paths to it as it may have.
func TestLeavingSessionMakesPlace(t *testing.T) {
	c := newContent(t, 96<<20, 55)
	synctest.Test(t, func(t *testing.T) {
		slots := make(chan struct{}, 4)
		old, next := &crowded{newLeaver(t, c), slots}, &crowded{newLeaver(t, c), slots}
		var mu sync.Mutex
		over := false
		fi := &finder{fn: func(int) ([]Route, error) {
			mu.Lock()
			defer mu.Unlock()
			if over {
				return []Route{next, next}, nil
			}
			return []Route{old, old}, nil
		}}
		for _, p := range []*crowded{old, next} {
			p.latency, p.rate = 50*time.Millisecond, 2e6
		}
		f := New(Config{Finder: fi, Store: newMemStore()})
		came := int64(-1)
		var cutter *time.Timer
		longest := gaps(t, f, c, func(off int) {
			if off != 32<<20 {
				return
			}
			if len(slots) != cap(slots) {
				t.Errorf("%d paths in use, want %d", len(slots), cap(slots))
			}
			mu.Lock()
			over = true
			mu.Unlock()
			close(old.leave)
			cutter = time.AfterFunc(4*time.Second, func() {
				mu.Lock()
				came = next.bytes()
				mu.Unlock()
				old.cut()
			})
		})
		cutter.Stop()
		mu.Lock()
		if came <= 0 {
			t.Errorf("%d bytes came from the successor before the end", came)
		}
		mu.Unlock()
		t.Logf("longest pause %v", longest)
		f.Close()
		for _, p := range []*crowded{old, next} {
			p.cut()
			p.wg.Wait()
		}
	})
}
