package chunk

import (
	"context"
	"strings"

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

// Sharded reports whether the folder is more than one block.
func (d *Dir) Sharded() bool { return d.root != nil }

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
	if b, ok := l.ref.Inline(); ok && l.ref.IsRaw() {
		e.Kind, e.Size = File, int64(len(b))
	} else if l.ref.IsRaw() && l.size <= MaxBlock { // else the claim is a lie: Stat will tell
		e.Kind, e.Size = File, e.Total
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
		return w.shard(ctx, d.root, 0, 0)
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
