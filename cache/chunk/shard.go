package chunk

import (
	"context"
	"sync"

	"github.com/spaolacci/murmur3"
)

// shard gets a sub-shard. One with nothing in it is refused: no writer makes
// such, and trees of them would be endless work.
func (d *Dir) shard(ctx context.Context, r Ref) (*shard, error) {
	if r.IsZero() || r.IsRaw() {
		return nil, hostile("unsupported shard")
	}
	if s, ok := d.shards.get(r); ok {
		return s, nil
	}
	b, err := block(ctx, d.g, r)
	if err != nil {
		return nil, err
	}
	n, v, err := decode(b)
	if err != nil {
		return nil, err
	}
	if v.kind != typeShard {
		return nil, hostile("shard of another kind")
	}
	s, err := newShard(n, v)
	if err != nil {
		return nil, err
	}
	if s.fanout != d.root.fanout || len(s.links) == 0 {
		return nil, hostile("shard unlike its parent")
	}
	d.shards.put(r, s)
	return s, nil
}

// find returns the index of the link in slot, or -1.
func (s *shard) find(slot int) int {
	for i, v := range s.slots {
		if int(v) == slot {
			return i
		}
	}
	return -1
}

// hashBits hands out the bits of a name's hash, highest first.
type hashBits struct {
	hash uint64
	left int
}

func (h *hashBits) next(fanout int) (int, bool) {
	n := log2(fanout)
	if h.left < n {
		return 0, false
	}
	h.left -= n
	return int(h.hash>>h.left) & (fanout - 1), true
}

// walk goes through a sharded folder. Each entry's name must hash to where it
// stands, so that no entry can come twice, however often a shard is linked.
type walk struct {
	dir   *Dir
	fn    func(Entry) error
	count int
}

type fetched struct {
	s   *shard
	err error
}

// shard visits s, which stands where the first used bits of the hash are
// path.
func (w *walk) shard(ctx context.Context, s *shard, path uint64, used int) error {
	width := log2(s.fanout)
	if used+width > 64 {
		return hostile("sharded folder too deep")
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var ahead []chan fetched // of the sub-shards next in order
	next := 0
	start := func() {
		for ; next < len(s.links) && len(ahead) < shardsAhead; next++ {
			if s.links[next].name != "" {
				continue
			}
			ch, ref := make(chan fetched, 1), s.links[next].ref
			wg.Go(func() {
				sub, err := w.dir.shard(ctx, ref)
				ch <- fetched{sub, err}
			})
			ahead = append(ahead, ch)
		}
	}
	for i, l := range s.links {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := path<<width | uint64(s.slots[i])
		if l.name != "" {
			if murmur3.Sum64([]byte(l.name))>>(64-used-width) != at {
				return hostile("entry in the wrong shard")
			}
			if w.count++; w.count > maxEntries {
				return hostile("too many entries")
			}
			if visible(l) {
				if err := w.fn(entry(l)); err != nil {
					return err
				}
			}
			continue
		}
		start()
		var f fetched
		select {
		case f = <-ahead[0]:
		case <-ctx.Done():
			return ctx.Err()
		}
		ahead = ahead[1:]
		if f.err != nil {
			return f.err
		}
		if err := w.shard(ctx, f.s, at, used+width); err != nil {
			return err
		}
	}
	return nil
}
