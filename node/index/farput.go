package index

import (
	"context"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// put sends each record to the super nodes nearest to its address, one or a
// few requests a super node, and returns how many keep it. It waits for all,
// but once every record that can be stored is kept by most of its super nodes,
// the rest have Grace left.
func (f *Far) put(ctx context.Context, recs []Record) []byte {
	plan, want := f.plan(ctx, recs)
	copies := make([]byte, len(recs))

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type done struct {
		idx    []int
		copies []byte
	}
	results := make(chan done) // closed by the goroutine that waits for all
	var wg sync.WaitGroup
	slots := make(chan struct{}, f.cfg.Parallel)
	for node, idx := range plan {
		for len(idx) > 0 {
			part := idx
			if len(part) > maxPut {
				part = idx[:maxPut]
			}
			idx = idx[len(part):]
			wg.Go(func() {
				select {
				case slots <- struct{}{}:
					defer func() { <-slots }()
				case <-ctx.Done():
					return
				}
				batch := make([]Record, len(part))
				for i, j := range part {
					batch[i] = recs[j]
				}
				ans, err := f.ask(ctx, node, encodePut(batch))
				if err != nil {
					return
				}
				if c, err := parseCopies(ans, len(batch)); err == nil {
					results <- done{part, c}
				}
			})
		}
	}
	go func() { wg.Wait(); close(results) }() // ends before put returns: results is drained below
	var grace <-chan time.Time
	for {
		select {
		case d, ok := <-results:
			if !ok {
				return copies
			}
			for i, j := range d.idx {
				if d.copies[i] > 0 {
					copies[j]++
				}
			}
			if grace == nil && most(copies, want) {
				t := time.NewTimer(f.cfg.Grace)
				defer t.Stop()
				grace = t.C
			}
		case <-grace:
			cancel()
			grace = nil
		}
	}
}

// most reports whether each record is kept by more than half of its nodes.
func most(copies []byte, want []int) bool {
	for i, c := range copies {
		if int(c)*2 <= want[i] {
			return false
		}
	}
	return true
}

// plan finds the super nodes of each record: which records go to a node, by
// index, and how many nodes each record has.
func (f *Far) plan(ctx context.Context, recs []Record) (map[wire.NodeID][]int, []int) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Total/2)
	defer cancel()
	byAddr := make(map[[32]byte][]int)
	for i, r := range recs {
		byAddr[r.Address()] = append(byAddr[r.Address()], i)
	}
	var (
		mu    sync.Mutex
		plan  = make(map[wire.NodeID][]int)
		want  = make([]int, len(recs))
		wg    sync.WaitGroup
		slots = make(chan struct{}, f.cfg.Parallel)
	)
	for addr, idx := range byAddr {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			nodes, err := f.nearest(ctx, addr)
			if err != nil {
				f.cfg.Log.Debug("no super node found for a record")
			}
			mu.Lock()
			defer mu.Unlock()
			for _, i := range idx {
				want[i] = len(nodes)
			}
			for _, n := range nodes {
				plan[n] = append(plan[n], idx...)
			}
		})
	}
	wg.Wait()
	return plan, want
}
