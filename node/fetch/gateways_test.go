package fetch

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// gatewayRoute leads to a publisher by one of several gateways.
type gatewayRoute struct {
	*publisher
	gateway byte
}

// Gateway implements Route.
func (r gatewayRoute) Gateway() wire.NodeID { return wire.NodeID{r.gateway} }

// What is known of how dials to a gateway went stays with it, in whatever order
// a later search names the gateways; one that is new begins anew.
func TestSearchKeepsWhatIsKnownOfAGateway(t *testing.T) {
	c := newContent(t, 1<<20, 3)
	p := newPublisher(t, c.blocks)
	fd := found(gatewayRoute{p, 1}, gatewayRoute{p, 2}, gatewayRoute{p, 3})
	f := New(Config{Finder: fd})
	defer f.Close()
	task := newTask(f, c.root)
	defer task.cancel()
	task.search(0)
	for _, c := range task.find.cands {
		c.fails = int(c.route.Gateway()[0])
	}
	fd.routes = []Route{gatewayRoute{p, 4}, gatewayRoute{p, 3}, gatewayRoute{p, 1}}
	task.search(0)
	var got []int
	for _, c := range task.find.cands {
		got = append(got, c.fails)
	}
	if want := []int{0, 3, 1}; !slices.Equal(got, want) {
		t.Errorf("failed dials: got %v, want %v", got, want)
	}
}

// pathsTo is the paths to a publisher by one gateway, as they are for a while.
type pathsTo struct {
	gatewayRoute
	silent *atomic.Bool // a new one is never ready
}

// Dial implements Route.
func (r pathsTo) Dial(ctx context.Context, first []byte) (io.ReadWriteCloser, error) {
	if r.silent != nil && r.silent.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return r.gatewayRoute.Dial(ctx, first)
}

// Where all routes have died, and those that are built instead are not ready
// when they should be, they make way for others, and others are looked for: no
// reader waits until it is known that they never will be.
func TestSlowDialsMakeWay(t *testing.T) {
	c := newContent(t, 24<<20, 5)
	for _, later := range []bool{false, true} { // only a later search knows of the gateway that works
		synctest.Test(t, func(t *testing.T) {
			p := newPublisher(t, c.blocks)
			p.latency, p.rate = 100*time.Millisecond, 4e6
			var silent atomic.Bool
			var routes []Route
			for i := range 4 {
				routes = append(routes, pathsTo{gatewayRoute{p, byte(1 + i)}, &silent})
			}
			good := pathsTo{gatewayRoute{p, 9}, nil}
			fd := &finder{fn: func(int) ([]Route, error) {
				if later && !silent.Load() {
					return routes, nil
				}
				return append(slices.Clone(routes), good), nil
			}}
			within(t, Config{Finder: fd, Routes: 2}, []*publisher{p}, func(f *Fetcher) {
				x, err := f.Open(t.Context(), c.root, c.root)
				if err != nil {
					t.Fatal(err)
				}
				defer x.Close()
				buf := make([]byte, 1<<20)
				var longest time.Duration
				for off := 0; off < len(c.data); off += len(buf) {
					if off == 8<<20 {
						silent.Store(true)
						p.each(func(h *half) { h.close(io.ErrUnexpectedEOF) })
					}
					start := time.Now()
					if _, err := x.ReadAt(t.Context(), buf, int64(off)); err != nil && err != io.EOF {
						t.Fatal(err)
					}
					longest = max(longest, time.Since(start))
				}
				t.Logf("longest wait %v", longest)
				if longest > 4*time.Second {
					t.Errorf("later %v: a read waited %v, want at most 4 s", later, longest)
				}
			})
		})
	}
}

// noWay is a route that ends on the reader's own side, until its time has come.
type noWay struct {
	*publisher
	until time.Time
	tries *atomic.Int32
}

// Dial implements Route.
func (r noWay) Dial(ctx context.Context, first []byte) (io.ReadWriteCloser, error) {
	if time.Now().Before(r.until) {
		r.tries.Add(1)
		return nil, fmt.Errorf("build path: %w", ErrNoWay)
	}
	return r.publisher.Dial(ctx, first)
}

// A dial that fails on the reader's own side says nothing of the route: that is
// tried again soon, however often it was, and until then the reader is told why
// nothing comes.
func TestNoWayIsTriedAgainSoon(t *testing.T) {
	c := newContent(t, 1<<20, 6)
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		f := New(Config{Finder: found(noWay{newPublisher(t, c.blocks), time.Now().Add(20 * time.Second), &tries})})
		defer f.Close()
		task := f.Task(c.root)
		defer task.Release()
		start := time.Now()
		time.AfterFunc(10*time.Second, func() {
			for _, x := range f.Transfers() {
				if x.Why != ErrNoWay.Error() {
					t.Errorf("it says %q", x.Why)
				}
			}
		})
		if _, err := task.Get(t.Context(), c.root); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 22*time.Second {
			t.Errorf("read after %v, want at most 2 s after the entries are back", took)
		}
		if n := tries.Load(); n < 15 || n > 60 {
			t.Errorf("%d tries in 20 s, want about one or two a second", n)
		}
	})
}
