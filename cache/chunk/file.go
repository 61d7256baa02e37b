package chunk

import (
	"context"
	"errors"
	"io"
	"sort"
)

// Reader is a file opened by OpenFile. It is safe for concurrent use, keeps at
// most 8 MiB of decoded inner nodes, and needs no closing.
type Reader struct {
	g     Getter
	rg    RangeGetter // g, if it is one
	root  Ref
	size  int64
	nodes lru[*fileNode]
}

// OpenFile reads the root block of a file. A folder or a symlink gives
// ErrNotFile, an invalid block ErrHostile; the rest are the Getter's errors.
func OpenFile(ctx context.Context, g Getter, r Ref) (*Reader, error) {
	f := &Reader{g: g, root: r}
	f.rg, _ = g.(RangeGetter)
	b, err := block(ctx, g, r)
	if err != nil {
		return nil, err
	}
	if r.IsRaw() {
		f.size = int64(len(b))
		return f, nil
	}
	n, err := decodeFile(b)
	if err != nil {
		return nil, err
	}
	f.size = n.size
	f.nodes.put(r, n)
	return f, nil
}

func decodeFile(b []byte) (*fileNode, error) {
	n, d, err := decode(b)
	if err != nil {
		return nil, err
	}
	if d.kind != typeFile && d.kind != typeRaw {
		return nil, ErrNotFile
	}
	return newFileNode(n, d)
}

// Size returns the file's length in bytes.
func (f *Reader) Size() int64 { return f.size }

// Ref returns what was opened.
func (f *Reader) Ref() Ref { return f.root }

// ReadAt reads len(p) bytes from off, fewer only with an error; at the file's
// end that is io.EOF. Leaves that are not touched are not fetched, and raw
// leaves are read in part if the Getter is a RangeGetter.
func (f *Reader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= f.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > f.size-off
	if short {
		p = p[:f.size-off]
	}
	n, err := f.read(ctx, f.root, f.size, 0, p, off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// read fills p from off of the content of r, which its parent says is size
// bytes long. p lies within it.
func (f *Reader) read(ctx context.Context, r Ref, size int64, depth int, p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.IsRaw() {
		return f.readLeaf(ctx, r, size, p, off)
	}
	n, err := f.node(ctx, r, size, depth)
	if err != nil {
		return 0, err
	}
	done := 0
	if off < int64(len(n.inline)) {
		done = copy(p, n.inline[off:])
	}
	for i := n.child(off + int64(done)); done < len(p); i++ {
		at, start := off+int64(done), n.start(i)
		m := min(int64(len(p)-done), n.ends[i]-at)
		k, err := f.read(ctx, n.refs[i], n.ends[i]-start, depth+1, p[done:done+int(m)], at-start)
		done += k
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// child returns the first child whose content ends after off.
func (n *fileNode) child(off int64) int {
	return sort.Search(len(n.ends), func(i int) bool { return n.ends[i] > off })
}

// node returns r's decoded node, size bytes of content long.
func (f *Reader) node(ctx context.Context, r Ref, size int64, depth int) (*fileNode, error) {
	if depth > maxDepth {
		return nil, hostile("file too deep")
	}
	n, ok := f.nodes.get(r)
	if !ok {
		b, err := block(ctx, f.g, r)
		if err != nil {
			return nil, err
		}
		if n, err = decodeFile(b); err != nil {
			if errors.Is(err, ErrNotFile) {
				err = hostile("folder inside a file")
			}
			return nil, err
		}
		f.nodes.put(r, n)
	}
	if n.size != size {
		return nil, hostile("part of another size than its parent says")
	}
	return n, nil
}

// readLeaf is read for a raw leaf. Small leaves are kept like nodes: a file of
// a million leaves of one byte should not cost a million calls.
func (f *Reader) readLeaf(ctx context.Context, r Ref, size int64, p []byte, off int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	small := size <= smallLeaf
	if small {
		if n, ok := f.nodes.get(r); ok && n.size == size {
			return copy(p, n.inline[off:]), nil
		}
	}
	_, inline := r.Inline()
	if f.rg == nil || inline || small {
		b, err := block(ctx, f.g, r)
		if err != nil {
			return 0, err
		}
		if int64(len(b)) != size {
			return 0, hostile("leaf of another size than its parent says")
		}
		if small {
			f.nodes.put(r, &fileNode{inline: b, size: size})
		}
		return copy(p, b[off:]), nil
	}
	// A read that reaches the leaf's end asks for one byte more than should be
	// there, so that a longer leaf shows.
	tail := 0
	if off+int64(len(p)) == size {
		tail = min(len(p), 512)
	}
	done, err := f.readRange(ctx, r, p[:len(p)-tail], off)
	if tail == 0 || err != nil {
		return done, err
	}
	end := make([]byte, tail+1)
	n, err := f.readRange(ctx, r, end, off+int64(done))
	switch {
	case n > tail:
		return 0, hostile("leaf longer than its parent says")
	case n == tail && errors.Is(err, errShort): // as it should be: one byte less
		err = nil
	}
	return done + copy(p[done:], end[:n]), err
}

var errShort = hostile("leaf shorter than its parent says")

// readRange fills p from off of the leaf r. A short count means the leaf's end.
func (f *Reader) readRange(ctx context.Context, r Ref, p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.rg.ReadRange(ctx, r, p, off)
	if err == nil || errors.Is(err, io.EOF) {
		err = nil
		if n < len(p) {
			err = errShort
		}
	}
	return n, err
}

// Leaves returns the refs of the leaves that hold the n bytes from off, in
// order, for fetching ahead: at most 4096, so a long file is asked for in
// pieces. It fetches inner nodes only; a dag-pb child that fits one block is
// taken for a leaf.
func (f *Reader) Leaves(ctx context.Context, off, n int64) ([]Ref, error) {
	if off < 0 || off >= f.size || n <= 0 {
		return nil, nil
	}
	return f.leaves(ctx, nil, f.root, f.size, 0, off, off+min(n, f.size-off))
}

func (f *Reader) leaves(ctx context.Context, refs []Ref, r Ref, size int64, depth int, from, to int64) ([]Ref, error) {
	if r.IsRaw() {
		return append(refs, r), nil
	}
	n, err := f.node(ctx, r, size, depth)
	if err != nil {
		return refs, err
	}
	if from < int64(len(n.inline)) {
		refs = append(refs, r)
	}
	for i := n.child(from); i < len(n.refs) && n.start(i) < to && len(refs) < maxLeaves; i++ {
		start, end := n.start(i), n.ends[i]
		if end == start {
			continue
		}
		c := n.refs[i]
		_, known := f.nodes.get(c)
		if c.IsRaw() || end-start <= MaxBlock && !known {
			refs = append(refs, c)
			continue
		}
		refs, err = f.leaves(ctx, refs, c, end-start, depth+1, max(from, start)-start, min(to, end)-start)
		if err != nil {
			return refs, err
		}
	}
	return refs, nil
}
