package fetch

import (
	"context"
	"sync"

	"wanderfs/cache/chunk"
)

// Getter returns a chunk.RangeGetter for what lies below root. It holds no
// task between calls and needs no closing.
func (f *Fetcher) Getter(root chunk.Ref) chunk.RangeGetter { return getter{f, root} }

type getter struct {
	f    *Fetcher
	root chunk.Ref
}

func (g getter) Get(ctx context.Context, r chunk.Ref) ([]byte, error) {
	t := g.f.Task(g.root)
	defer t.Release()
	return t.Get(ctx, r)
}

func (g getter) ReadRange(ctx context.Context, r chunk.Ref, p []byte, off int64) (int, error) {
	t := g.f.Task(g.root)
	defer t.Release()
	return t.ReadRange(ctx, r, p, off)
}

// Dir is an open folder. What it lists is remembered, so that files read one
// after the other come ahead; listing itself fetches the folder's blocks only.
// It is safe for concurrent use and needs no closing.
type Dir struct {
	*chunk.Dir
	f         *Fetcher
	root, ref chunk.Ref
	once      sync.Once
}

// OpenDir opens the folder r below root, from the store or the network. Errors
// are those of chunk.OpenDir and Task.Get.
func (f *Fetcher) OpenDir(ctx context.Context, root, r chunk.Ref) (*Dir, error) {
	d, err := chunk.OpenDir(ctx, f.Getter(root), r)
	if err != nil {
		return nil, err
	}
	return &Dir{Dir: d, f: f, root: root, ref: r}, nil
}

// Lookup is chunk.Dir's. A folder of one block is known as a whole then.
func (d *Dir) Lookup(ctx context.Context, name string) (chunk.Entry, error) {
	if !d.Sharded() {
		d.once.Do(func() {
			_ = d.Each(ctx, func(chunk.Entry) error { return nil })
		})
	}
	return d.Dir.Lookup(ctx, name)
}

// Each is chunk.Dir's.
func (d *Dir) Each(ctx context.Context, fn func(chunk.Entry) error) error {
	var all []chunk.Entry
	err := d.Dir.Each(ctx, func(e chunk.Entry) error {
		if len(all) <= maxListed {
			all = append(all, e)
		}
		return fn(e)
	})
	if err == nil {
		d.f.siblings.listed(d.root, d.ref, all)
	}
	return err
}
