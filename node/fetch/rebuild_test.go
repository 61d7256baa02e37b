package fetch

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// drawing is a route that blames its relays for each failure: it draws others
// for every dial but the first few.
type drawing struct {
	*publisher
	mu    sync.Mutex
	free  int
	drawn []time.Time
}

func (d *drawing) Dial(ctx context.Context, first []byte) (io.ReadWriteCloser, error) {
	d.mu.Lock()
	d.free--
	free := d.free >= 0
	d.mu.Unlock()
	if !free {
		if err := Draw(ctx); err != nil {
			return nil, err
		}
		d.mu.Lock()
		d.drawn = append(d.drawn, time.Now())
		d.mu.Unlock()
	}
	return d.publisher.Dial(ctx, first)
}

// most returns the largest number of draws in any span.
func (d *drawing) most(span time.Duration) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, from := range d.drawn {
		k := 0
		for _, at := range d.drawn[i:] {
			if at.Sub(from) < span {
				k++
			}
		}
		n = max(n, k)
	}
	return n
}

// A publisher or gateway that fails every path, again and again, does not make
// its reader draw more than four relays in ten minutes, however long and often
// somebody reads. The reader is told why nothing comes; another source helps
// at once, and the same one when it behaves and the time has come.
func TestRebuildsAreBounded(t *testing.T) {
	c := newContent(t, 3<<20, 80)
	for _, x := range []struct {
		name  string
		limit int
		most  int
	}{{"with the limit", 0, 4}, {"without", 1 << 20, 1 << 20}} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				evil, good := newPublisher(t, c.blocks), newPublisher(t, c.blocks)
				evil.latency = 50 * time.Millisecond
				evil.serve = func(_ context.Context, conn io.ReadWriteCloser, _ []byte) error { return conn.Close() }
				route := &drawing{publisher: evil, free: 4}
				fd := found(route)
				within(t, Config{Finder: fd, Store: newMemStore(), Rebuilds: x.limit}, []*publisher{evil, good}, func(f *Fetcher) {
					start := time.Now()
					for time.Since(start) < 35*time.Minute {
						_, err := f.Open(t.Context(), c.root, c.root)
						if !errors.Is(err, ErrStalled) {
							t.Fatalf("got %v, want %v", err, ErrStalled)
						}
						if x.limit == 0 && !strings.Contains(err.Error(), "too many paths failed") {
							t.Errorf("the error says %q, not why", err)
						}
						time.Sleep(90 * time.Second) // the task is over, and begins anew
					}
					got := route.most(10 * time.Minute)
					t.Logf("%d relays drawn in all, at most %d in ten minutes", len(route.drawn), got)
					if got > x.most || x.limit > 0 && got <= 4 {
						t.Errorf("%d relays were drawn in ten minutes", got)
					}
					if x.limit > 0 {
						return
					}
					fd.mu.Lock()
					fd.routes = []Route{route, good}
					fd.mu.Unlock()
					start = time.Now()
					if err := c.readAll(t.Context(), f, 1<<20); err != nil {
						t.Errorf("with another source: %v", err)
					}
					if took := time.Since(start); took > 5*time.Second {
						t.Errorf("another source was used after %v", took)
					}
				})
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		p.serve = func(_ context.Context, conn io.ReadWriteCloser, _ []byte) error { return conn.Close() }
		route := &drawing{publisher: p, free: 4}
		within(t, Config{Finder: found(route), Store: newMemStore(), Stall: time.Hour}, []*publisher{p}, func(f *Fetcher) {
			start := time.Now()
			done := make(chan error, 1)
			go func() { done <- c.readAll(t.Context(), f, 1<<20) }()
			time.Sleep(3 * time.Minute)
			if l := f.Transfers(); len(l) != 1 || !strings.Contains(l[0].Why, "too many paths failed") {
				t.Errorf("the status does not say why: %d transfers", len(l))
			}
			p.mu.Lock()
			p.serve = nil
			p.mu.Unlock()
			if err := <-done; err != nil {
				t.Errorf("when the source behaves: %v", err)
			}
			if took := time.Since(start); took < 9*time.Minute || took > 11*time.Minute {
				t.Errorf("read on after %v, want 10 min", took)
			}
		})
	})
}
