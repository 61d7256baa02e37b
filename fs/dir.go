package fs

import (
	"context"
	"os"
	"sort"
	"strings"
	"sync"
	"syscall"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"

	"wanderfs/cache/chunk"
)

const modeSymlink = os.ModeSymlink

// place is what a folder hangs below.
type place interface{ forget(c *dir) }

// dir is a folder of content in one place. The same folder elsewhere is
// another node: the kernel would move a directory that it meets under a
// second name, and with it the working directory of a process.
type dir struct {
	readonly
	t     *tree
	up    place
	name  string // below up, as shown
	inode uint64
	root  chunk.Ref // what the user opened
	ref   chunk.Ref
	depth int // folders above, up to root
	total int64

	mu   sync.Mutex
	dirs map[string]*dir        // guarded by mu; children that the kernel knows
	open Dir                    // guarded by mu; nil until needed
	all  *listing[chunk.Entry]  // guarded by mu; nil until listed
	ents map[string]chunk.Entry // guarded by mu; looked up and completed

	asking map[string]bool // guarded by mu; entries that ahead asks for
}

// statAhead is how many entries of a folder are asked for at once.
const statAhead = 16

func newDir(t *tree, up place, name string, inode uint64, root, r chunk.Ref, depth int, total int64) *dir {
	return &dir{t: t, up: up, name: name, inode: inode, root: root, ref: r, depth: depth, total: total,
		dirs: make(map[string]*dir), ents: make(map[string]chunk.Entry), asking: make(map[string]bool)}
}

func (d *dir) Attr(_ context.Context, a *fuse.Attr) error {
	d.t.owned(a, os.ModeDir|0o755)
	a.Inode, a.Valid = d.inode, forever
	return nil
}

// Forget is told by the kernel when it drops the folder from its caches.
func (d *dir) Forget() { d.up.forget(d) }

func (d *dir) forget(c *dir) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dirs[c.name] == c {
		delete(d.dirs, c.name)
	}
}

func (d *dir) Lookup(ctx context.Context, req *fuse.LookupRequest, resp *fuse.LookupResponse) (fusefs.Node, error) {
	c, cancel := d.t.wait(ctx, d.t.cfg.LookupTimeout)
	defer cancel()
	e, err := d.entry(c, req.Name)
	if err != nil {
		return nil, errno(ctx, err)
	}
	n := d.node(req.Name, e)
	if n == nil {
		return nil, eNOENT
	}
	resp.EntryValid = forever
	return n, nil
}

// node returns the node of an entry, nil for what is not shown.
func (d *dir) node(name string, e chunk.Entry) fusefs.Node {
	switch e.Kind {
	case chunk.File:
		return d.t.file(d.root, e.Ref, e.Size, true)
	case chunk.Folder:
		d.mu.Lock()
		defer d.mu.Unlock()
		c := d.dirs[name]
		if c == nil {
			c = newDir(d.t, d, name, placeInode(d.inode, name), d.root, e.Ref, d.depth+1, e.Total)
			d.dirs[name] = c
		}
		return c
	case chunk.Symlink:
		if target, ok := inside(e.Target, d.depth); ok {
			return link{t: d.t, inode: placeInode(d.inode, name), target: target}
		}
	}
	return nil
}

// entry finds what is shown as name. It asks the Library only for what no
// listing has told yet.
func (d *dir) entry(ctx context.Context, name string) (chunk.Entry, error) {
	d.mu.Lock()
	e, ok := d.ents[name]
	if !ok && d.all != nil {
		if e, ok = d.all.by[name]; !ok {
			d.mu.Unlock()
			return e, ErrNotFound
		}
	}
	d.mu.Unlock()
	if !ok {
		if junk(name) {
			return e, ErrNotFound
		}
		var err error
		if e, err = d.search(ctx, name); err != nil {
			return e, err
		}
	}
	if !complete(e) {
		d.ahead(name)
		return d.complete(ctx, name, e)
	}
	d.mu.Lock()
	d.ents[name] = e
	d.mu.Unlock()
	return e, nil
}

// complete reports whether nothing of e must be asked for.
func complete(e chunk.Entry) bool {
	return e.Kind != chunk.Unknown && (e.Kind != chunk.Symlink || e.Target != "")
}

// complete asks for what a listing does not tell.
func (d *dir) complete(ctx context.Context, name string, e chunk.Entry) (chunk.Entry, error) {
	full, err := d.t.lib.Stat(ctx, d.root, e.Ref)
	if err != nil {
		return e, err
	}
	e.Kind, e.Size, e.Target = full.Kind, full.Size, full.Target
	d.mu.Lock()
	d.ents[name] = e
	d.mu.Unlock()
	return e, nil
}

// ahead asks for the entries that ls -l will want after name, some at once,
// so that it does not wait for one answer after the other.
func (d *dir) ahead(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		return
	}
	i := sort.SearchStrings(d.all.names, name) + 1
	for _, next := range d.all.names[min(i, len(d.all.names)):min(i+statAhead, len(d.all.names))] {
		e := d.all.by[next]
		if _, known := d.ents[next]; known || complete(e) || d.asking[next] || len(d.asking) >= statAhead {
			continue
		}
		d.asking[next] = true
		d.t.wg.Go(func() {
			ctx, cancel := context.WithTimeout(d.t.ctx, d.t.cfg.LookupTimeout)
			defer cancel()
			_, _ = d.complete(ctx, next, e)
			d.mu.Lock()
			delete(d.asking, next)
			d.mu.Unlock()
		})
	}
}

func (d *dir) search(ctx context.Context, name string) (chunk.Entry, error) {
	od, err := d.opened(ctx)
	if err != nil {
		return chunk.Entry{}, err
	}
	if raw, err := chunk.UnescapeName(name); err == nil {
		return od.Lookup(ctx, raw)
	}
	if !strings.Contains(name, "%~") {
		return chunk.Entry{}, ErrNotFound
	}
	all, err := d.list(ctx) // it may be a name that was cut
	if err != nil {
		return chunk.Entry{}, err
	}
	e, ok := all.by[name]
	if !ok {
		return e, ErrNotFound
	}
	return e, nil
}

func (d *dir) opened(ctx context.Context) (Dir, error) {
	d.mu.Lock()
	od := d.open
	d.mu.Unlock()
	if od != nil {
		return od, nil
	}
	od, err := d.t.lib.Dir(ctx, d.root, d.ref)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = od
	}
	return d.open, nil
}

// list reads the whole folder once; it never changes.
func (d *dir) list(ctx context.Context) (*listing[chunk.Entry], error) {
	d.mu.Lock()
	all := d.all
	d.mu.Unlock()
	if all != nil {
		return all, nil
	}
	od, err := d.opened(ctx)
	if err != nil {
		return nil, err
	}
	by := make(map[string]chunk.Entry)
	err = od.Each(ctx, func(e chunk.Entry) error {
		if len(by) >= d.t.cfg.MaxListing {
			return syscall.EOVERFLOW
		}
		name := shown(e.Name)
		if _, twice := by[name]; !twice {
			by[name] = e
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all = newListing(by)
	d.mu.Lock()
	d.all = all
	d.mu.Unlock()
	return all, nil
}

// Open waits for the folder's own blocks, so that an error is told by opendir.
func (d *dir) Open(ctx context.Context, req *fuse.OpenRequest, _ *fuse.OpenResponse) (fusefs.Handle, error) {
	if !req.Flags.IsReadOnly() {
		return nil, eROFS
	}
	c, cancel := d.t.wait(ctx, d.t.cfg.LookupTimeout)
	defer cancel()
	all, err := d.list(c)
	if err != nil {
		return nil, errno(ctx, err)
	}
	if d.depth == 0 {
		d.t.hash.note(d.ref, fuse.DT_Dir)
	}
	return &dirHandle{d: d, all: all}, nil
}

// dirHandle is one opened folder.
type dirHandle struct {
	d   *dir
	all *listing[chunk.Entry]
}

func (h *dirHandle) ReadDirAll(context.Context) ([]fuse.Dirent, error) {
	ents := make([]fuse.Dirent, 0, len(h.all.names))
	for _, name := range h.all.names {
		e := h.all.by[name]
		if e.Kind == chunk.Symlink && e.Target != "" {
			if _, ok := inside(e.Target, h.d.depth); !ok {
				continue
			}
		}
		ents = append(ents, dirent(h.d.inode, name, e.Kind, e.Ref))
	}
	return ents, nil
}

func dirent(parent uint64, name string, kind chunk.Kind, r chunk.Ref) fuse.Dirent {
	de := fuse.Dirent{Name: name}
	switch kind {
	case chunk.File:
		de.Type, de.Inode = fuse.DT_File, fileInode(r)
	case chunk.Folder:
		de.Type, de.Inode = fuse.DT_Dir, placeInode(parent, name)
	case chunk.Symlink:
		de.Type, de.Inode = fuse.DT_Link, placeInode(parent, name)
	default:
		de.Type, de.Inode = fuse.DT_Unknown, fileInode(r)
	}
	return de
}
