package fetch

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// lateRoute is one that takes a while until it works.
type lateRoute struct {
	*publisher
	after time.Duration
}

// Dial implements Route.
func (r lateRoute) Dial(ctx context.Context, first []byte) (io.ReadWriteCloser, error) {
	select {
	case <-time.After(r.after):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return r.publisher.Dial(ctx, first)
}

// Both routes in use trickle, as they do when they lead over the same relay:
// each is asked for what the other one brings too late. Once other routes are
// there these bring what the reader waits for.
func TestRoutesThatTrickleTogether(t *testing.T) {
	const latency, rate = 375 * time.Millisecond, 600e3
	c := newContent(t, 8<<20, 77)
	for after := 500 * time.Millisecond; after <= 5*time.Second; after += 500 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			var near []*publisher
			var routes []Route
			for i := range 4 {
				p := newPublisher(t, c.blocks)
				defer p.wg.Wait()
				p.latency, p.rate = latency, rate
				if i < firstTwo {
					near = append(near, p)
					routes = append(routes, p)
				} else {
					routes = append(routes, lateRoute{p, after})
				}
			}
			f := New(Config{Finder: found(routes...), Store: newMemStore()})
			defer f.Close()
			var at time.Time
			wait := gaps(t, f, c, func(off int) {
				if off < 1<<20 || !at.IsZero() {
					return
				}
				at = time.Now()
				for _, p := range near {
					p.each(func(h *half) {
						h.mu.Lock()
						h.rate = 32e3
						h.mu.Unlock()
					})
				}
			})
			t.Logf("other routes after %v: longest wait %v", after, wait)
			if most := after + 5*time.Second; wait > most {
				t.Errorf("other routes after %v: a read waited %v, want at most %v", after, wait, most)
			}
		})
	}
}
