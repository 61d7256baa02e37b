package chunk

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// distant answers after a second, and counts the calls under way.
type distant struct {
	*memory
	now, most atomic.Int64
}

func (d *distant) Get(ctx context.Context, r Ref) ([]byte, error) {
	n := d.now.Add(1)
	defer d.now.Add(-1)
	for m := d.most.Load(); n > m && !d.most.CompareAndSwap(m, n); m = d.most.Load() {
	}
	select {
	case <-time.After(time.Second):
		return d.memory.Get(ctx, r)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestListingFetchesAhead lists a sharded folder over slow links: a few shards
// at once, each once.
func TestListingFetchesAhead(t *testing.T) {
	m := newStore()
	var entries []Entry
	leaf := m.raw(nil)
	for i := range 3000 {
		entries = append(entries, Entry{Name: fmt.Sprint(i), Ref: leaf})
	}
	e, err := shape{fanout: 256, plain: 100}.folder(entries, m)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		g := &distant{memory: m}
		start := time.Now()
		d, err := OpenDir(t.Context(), g, e.Ref)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		if err := d.Each(t.Context(), func(Entry) error { count++; return nil }); err != nil || count != len(entries) {
			t.Fatalf("got %d entries, %v; want %d", count, err, len(entries))
		}
		shards := 0
		for r, n := range m.gets {
			if shards++; n != 1 {
				t.Errorf("%s fetched %d times", r, n)
			}
		}
		if most := g.most.Load(); most < 2 || most > 4*shardsAhead {
			t.Errorf("got %d fetches at once, want a few", most)
		}
		if took, serial := time.Since(start), time.Duration(shards)*time.Second; took > serial/2 {
			t.Errorf("took %v for %d shards", took, shards)
		}
	})
}
