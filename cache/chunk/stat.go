package chunk

import (
	"context"
	"math"
)

// block gets r's block, which may be written out in r itself.
func block(ctx context.Context, g Getter, r Ref) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if b, ok := r.Inline(); ok {
		return b, nil
	}
	b, err := g.Get(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxBlock {
		return nil, hostile("block too long")
	}
	return b, nil
}

// Stat reads r's block and tells what it is: Kind, Size, Total and Target; the
// Name is empty. It reads one block only: that all the parts are there, and
// are as long as the block says, shows when they are read.
func Stat(ctx context.Context, g Getter, r Ref) (Entry, error) {
	b, err := block(ctx, g, r)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Ref: r, Total: int64(len(b))}
	if r.IsRaw() {
		e.Kind, e.Size = File, int64(len(b))
		return e, nil
	}
	n, d, err := decode(b)
	if err != nil {
		return Entry{}, err
	}
	for _, l := range n.links {
		e.Total = addClaim(e.Total, l.size)
	}
	switch d.kind {
	case typeFile, typeRaw:
		f, err := newFileNode(n, d)
		if err != nil {
			return Entry{}, err
		}
		e.Kind, e.Size = File, f.size
	case typeFolder:
		e.Kind = Folder
	case typeShard:
		if _, err := newShard(n, d); err != nil {
			return Entry{}, err
		}
		e.Kind = Folder
	case typeSymlink:
		if e.Target, err = target(n, d); err != nil {
			return Entry{}, err
		}
		e.Kind, e.Size = Symlink, int64(len(e.Target))
	}
	return e, nil
}

func target(n node, d data) (string, error) {
	if len(n.links) > 0 || len(d.body) == 0 || len(d.body) > maxTarget {
		return "", hostile("bad symlink")
	}
	for _, c := range d.body {
		if c == 0 {
			return "", hostile("bad symlink")
		}
	}
	return string(d.body), nil
}

// addClaim adds what a stranger claims without overflowing.
func addClaim(sum int64, claim uint64) int64 {
	if claim > uint64(math.MaxInt64-sum) {
		return math.MaxInt64
	}
	return sum + int64(claim)
}
