package index

import (
	"context"
	"slices"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// walkEnd is how one walker ended, and whether it met anybody at all.
type walkEnd struct {
	walkAnswer
	heard bool
}

// walk lets g walk on from the super nodes that lived, and from others that
// this node knows further from the key, by turns. It returns how many walkers
// there are; each answers once. nodes are those that were asked.
func (f *Far) walk(ctx context.Context, wg *sync.WaitGroup, g getRequest, nodes, lived []wire.NodeID, answers chan<- walkEnd) int {
	if f.cfg.Walkers <= 0 {
		return 0
	}
	select {
	case f.walks <- struct{}{}:
	default:
		return 0 // enough of them are under way
	}
	w := newWalkRequest(f.newWalk(), g)
	for _, n := range nodes {
		w = w.remember(n)
	}
	starts := f.starts(g.Addr, nodes, lived)
	if len(starts) == 0 {
		<-f.walks
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Walk)
	if end, ok := ctx.Deadline(); ok && time.Until(end) < leastBudget {
		cancel()
		<-f.walks
		return 0
	}
	for _, n := range starts[:min(f.cfg.Walkers, len(starts))] {
		w = w.remember(n) // no walker is to come where another begins
	}
	var (
		mu   sync.Mutex
		all  sync.WaitGroup
		step = walker{f.cfg.Router, f.cfg.Network, f.cfg.Reach, f.cfg.Replicas, f.coin}
	)
	next := func(walkRequest) (wire.NodeID, bool) {
		mu.Lock()
		defer mu.Unlock()
		if len(starts) == 0 {
			return wire.NodeID{}, false
		}
		n := starts[0]
		starts = starts[1:]
		return n, true
	}
	n := min(f.cfg.Walkers, len(starts))
	for range n {
		all.Add(1)
		wg.Go(func() {
			defer all.Done()
			a, heard := step.pass(ctx, w, next)
			answers <- walkEnd{a, heard}
		})
	}
	wg.Go(func() {
		all.Wait()
		cancel()
		<-f.walks
	})
	return n
}

// starts are where walkers may begin, in this order. Who answered is near the
// key and knows its neighbourhood; who was not asked may even hold a record.
func (f *Far) starts(key [32]byte, nodes, lived []wire.NodeID) []wire.NodeID {
	var fresh, out []wire.NodeID
	for _, n := range f.cfg.Router.Known(key, 3*f.cfg.Replicas) {
		if !slices.Contains(nodes, n) {
			fresh = append(fresh, n)
		}
	}
	for i := range max(len(lived), len(fresh)) {
		if i < len(fresh) {
			out = append(out, fresh[i])
		}
		if i < len(lived) {
			out = append(out, lived[i])
		}
	}
	return out
}
