package chunk

import (
	"context"
	"strings"
	"sync"

	"github.com/spaolacci/murmur3"
)

// Dir is a folder opened by OpenDir, plain or sharded. It is safe for
// concurrent use, keeps at most 8 MiB of decoded shards, and needs no closing.
type Dir struct {
	g      Getter
	names  map[string]int // of a plain folder: index in list
	list   []Entry
	root   *shard // of a sharded folder
	shards lru[*shard]
}

// OpenDir reads the root block of a folder. Anything but a folder gives
// ErrNotDir, an invalid block ErrHostile; the rest are the Getter's errors.
func OpenDir(ctx context.Context, g Getter, r Ref) (*Dir, error) {
	if r.IsRaw() {
		return nil, ErrNotDir
	}
	b, err := block(ctx, g, r)
	if err != nil {
		return nil, err
	}
	n, d, err := decode(b)
	if err != nil {
		return nil, err
	}
	dir := &Dir{g: g}
	switch d.kind {
	case typeFolder:
		dir.plain(n)
		return dir, nil
	case typeShard:
		dir.root, err = newShard(n, d)
		if err != nil {
			return nil, err
		}
		return dir, nil
	}
	return nil, ErrNotDir
}

// plain lists a folder that is one block. Of two entries with one name the
// first counts.
func (d *Dir) plain(n node) {
	d.names = make(map[string]int, len(n.links))
	for _, l := range n.links {
		if _, double := d.names[l.name]; double || !visible(l) {
			continue
		}
		d.names[l.name] = len(d.list)
		d.list = append(d.list, entry(l))
	}
}

// visible reports whether a folder shows l: whether it names something that
// this program can verify, and its name can be a name at all.
func visible(l link) bool { return !l.ref.IsZero() && goodName(l.name) }

func goodName(s string) bool {
	return s != "" && s != "." && s != ".." && strings.IndexByte(s, 0) < 0
}

func entry(l link) Entry {
	e := Entry{Name: l.name, Ref: l.ref, Total: addClaim(0, l.size)}
	if l.ref.IsRaw() {
		e.Kind, e.Size = File, e.Total
		if b, ok := l.ref.Inline(); ok {
			e.Size = int64(len(b))
		}
	}
	return e
}

// Lookup returns the entry with this name, as it is in the DAG. It gives
// ErrNotFound if there is none. The Size of a raw leaf is a claim of the
// folder, until its block has been read.
func (d *Dir) Lookup(ctx context.Context, name string) (Entry, error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, err
	}
	if !goodName(name) {
		return Entry{}, ErrNotFound
	}
	if d.root == nil {
		i, ok := d.names[name]
		if !ok {
			return Entry{}, ErrNotFound
		}
		return d.list[i], nil
	}
	h := hashBits{hash: murmur3.Sum64([]byte(name)), left: 64}
	for s := d.root; ; {
		slot, ok := h.next(s.fanout)
		if !ok {
			return Entry{}, hostile("sharded folder too deep")
		}
		i := s.find(slot)
		if i < 0 {
			return Entry{}, ErrNotFound
		}
		l := s.links[i]
		if l.name != "" {
			if l.name != name || !visible(l) {
				return Entry{}, ErrNotFound
			}
			return entry(l), nil
		}
		var err error
		if s, err = d.shard(ctx, l.ref); err != nil {
			return Entry{}, err
		}
	}
}

// LookupShown returns the entry that a listing shows as name, after
// EscapeName. It gives ErrNotFound if there is none.
func (d *Dir) LookupShown(ctx context.Context, name string) (Entry, error) {
	raw, err := UnescapeName(name)
	if err == nil {
		return d.Lookup(ctx, raw)
	}
	if !isCut(name) {
		return Entry{}, ErrNotFound
	}
	var found Entry
	err = d.Each(ctx, func(e Entry) error {
		if EscapeName(e.Name) == name {
			found = e
			return errStop
		}
		return nil
	})
	switch err {
	case errStop:
		return found, nil
	case nil:
		return Entry{}, ErrNotFound
	}
	return Entry{}, err
}

// Each calls fn for every entry, one after the other, and returns the first
// error of fn, the Getter or ctx. Entries of a plain folder come in the order
// of the block, those of a sharded one in the order of its shards, which are
// fetched a few at a time. Entries whose names cannot be names (empty, ".",
// "..", with a zero byte) and whose CIDs are of a kind unknown here are left
// out. After an error the entries already seen were good.
func (d *Dir) Each(ctx context.Context, fn func(Entry) error) error {
	if d.root != nil {
		w := walk{dir: d, fn: fn}
		_, err := w.shard(ctx, d.root, 0, 0)
		return err
	}
	for _, e := range d.list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

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
// path. It returns how many entries s holds.
func (w *walk) shard(ctx context.Context, s *shard, path uint64, used int) (int, error) {
	width := log2(s.fanout)
	if used+width > 64 {
		return 0, hostile("sharded folder too deep")
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
	here := 0
	for i, l := range s.links {
		if err := ctx.Err(); err != nil {
			return here, err
		}
		at := path<<width | uint64(s.slots[i])
		if l.name != "" {
			if murmur3.Sum64([]byte(l.name))>>(64-used-width) != at {
				return here, hostile("entry in the wrong shard")
			}
			here++
			if w.count++; w.count > maxEntries {
				return here, hostile("too many entries")
			}
			if visible(l) {
				if err := w.fn(entry(l)); err != nil {
					return here, err
				}
			}
			continue
		}
		start()
		var f fetched
		select {
		case f = <-ahead[0]:
		case <-ctx.Done():
			return here, ctx.Err()
		}
		ahead = ahead[1:]
		if f.err != nil {
			return here, f.err
		}
		n, err := w.shard(ctx, f.s, at, used+width)
		if here += n; err != nil {
			return here, err
		}
	}
	return here, nil
}
