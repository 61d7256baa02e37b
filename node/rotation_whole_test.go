package node

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/node/fetch"
	"wanderfs/node/index"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// asking is how many round trips of a whole way the index takes to find or to
// keep a record: it is asked at a path's far end, which asks others.
const asking = 3

// newRotating starts both ends with sessions of a mean life. It also gives what
// counts the publisher's sessions that the index has named.
func newRotating(t *testing.T, cfg relaytest.Config, content *blocks, up int64, life time.Duration) (w *whole, named func() int) {
	t.Helper()
	w = startWhole(t, cfg, content)
	trip := time.Duration(2*(len(positions)+1)) * cfg.Latency
	g := &shareGroup{server: &fetch.Server{Blocks: content}, spread: 1}
	g.p = newAnnouncer(relaytest.Name, nil, w.publishing(up, life), make(chan struct{}, 1))
	var err error
	if g.record, err = index.NewGroup(relaytest.Name); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var now *session // that the index names
	all := make(map[*session]bool)
	g.p.put = func(ctx context.Context, _ []index.Record) error {
		g.mu.Lock()
		s := g.current
		g.mu.Unlock()
		select {
		case <-time.After(asking * trip):
		case <-ctx.Done():
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		now, all[s] = s, true
		return nil
	}
	w.source = func() (wire.Source, bool) {
		mu.Lock()
		s := now
		mu.Unlock()
		src, ok := s.source(relaytest.Name)
		time.Sleep(asking * trip)
		return src, ok
	}
	g.p.wg.Go(g.run)
	w.closers = append(w.closers, func() { g.p.Close() })
	for !g.isTold() {
		time.Sleep(100 * time.Millisecond)
	}
	w.read(life, fetch.Config{})
	return w, func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(all)
	}
}

// TestRotationWhole: both ends take new sessions every few seconds while a
// file is read as fast as it comes, from a publisher who may send little, or
// over slow lines. The read goes on, all bytes are right. Measured after the
// start, the longest wait is 0.8 to 1.6 s and 0.6 to 1.3 s; 2.7 s in one run of
// twenty-five with a held publisher.
func TestRotationWhole(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const (
		most  = 3500 * time.Millisecond
		start = 8 << 20 // until all paths are in use
	)
	content := newBlocks(t, 120<<20)
	for _, c := range []struct {
		name     string
		up, rate int64 // bytes/s: of the publisher, of a line
	}{
		{"held publisher", 6 << 20 /* a session: 3/8 */, 0},
		{"slow lines", 0, 1_500_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, named := newRotating(t, relaytest.Config{Relays: 48, Latency: 10 * time.Millisecond, Rate: c.rate, Connect: startTrips}, content, c.up, 20*time.Second)
				defer w.Close()
				keys := make(map[wire.SessionNumber]bool)
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					for ctx.Err() == nil {
						for _, s := range w.find.own.sessions() {
							keys[s.number] = true
						}
						select {
						case <-time.After(time.Second):
						case <-ctx.Done():
						}
					}
				})
				begin := time.Now()
				_, longest, err := w.readAll(start, func() {})
				cancel()
				wg.Wait()
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d reading and %d publishing sessions in %v, longest wait %v", len(keys), named(), time.Since(begin).Round(time.Second), longest.Round(time.Millisecond))
				if longest > most {
					t.Errorf("a read waited %v, want at most %v", longest, most)
				}
				if len(keys) < 2 || named() < 2 {
					t.Error("nothing rotated during the read")
				}
			})
		})
	}
}
