package fs

import (
	"context"
	"os"
	"sync"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"

	"wanderfs/cache/chunk"
)

// maxOpened bounds the listing of hash/.
const maxOpened = 10_000

// hashDir is hash/: any CID leads on, the listing shows what was opened by
// itself or pinned. Of a folder that is the folder, not all that lies in it: who
// copied an album would find a thousand names here.
type hashDir struct {
	readonly
	t *tree

	mu      sync.Mutex
	dirs    map[string]*dir               // guarded by mu; by the spelling used
	opened  map[chunk.Ref]fuse.DirentType // guarded by mu
	history []chunk.Ref                   // guarded by mu; oldest first
}

func newHashDir(t *tree) *hashDir {
	return &hashDir{t: t, dirs: make(map[string]*dir), opened: make(map[chunk.Ref]fuse.DirentType)}
}

func (d *hashDir) Attr(_ context.Context, a *fuse.Attr) error {
	d.t.owned(a, os.ModeDir|0o755)
	a.Inode, a.Valid, a.Mtime = inodeHash, brief, d.t.start
	return nil
}

// Lookup takes every valid spelling of a CID. What is no CID is known not to
// exist; what nobody has now is not known not to exist, hence ETIMEDOUT.
func (d *hashDir) Lookup(ctx context.Context, req *fuse.LookupRequest, resp *fuse.LookupResponse) (fusefs.Node, error) {
	r, err := chunk.Parse(req.Name)
	if err != nil {
		return nil, eNOENT
	}
	resp.EntryValid = forever
	d.mu.Lock()
	known := d.dirs[req.Name]
	d.mu.Unlock()
	if known != nil {
		return known, nil
	}
	if f := d.t.knownFile(r); f != nil && f.isNamed() {
		return f, nil
	}
	e, err := d.t.stat(ctx, r, r)
	if err != nil {
		return nil, err
	}
	switch e.Kind {
	case chunk.Folder:
		return d.child(req.Name, r, e), nil
	case chunk.File:
		return d.t.file(r, r, e.Size, true), nil
	}
	return nil, eNOENT // a symlink alone leads nowhere
}

func (d *hashDir) child(name string, r chunk.Ref, e chunk.Entry) *dir {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.dirs[name]; c != nil {
		return c
	}
	c := newDir(d.t, d, name, placeInode(inodeHash, name), r, r, 0, e.Total)
	d.dirs[name] = c
	return c
}

func (d *hashDir) forget(c *dir) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dirs[c.name] == c {
		delete(d.dirs, c.name)
	}
}

// note remembers that the user opened r.
func (d *hashDir) note(r chunk.Ref, typ fuse.DirentType) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.opened[r]; ok {
		return
	}
	if len(d.history) >= maxOpened {
		delete(d.opened, d.history[0])
		d.history = d.history[1:]
	}
	d.opened[r] = typ
	d.history = append(d.history, r)
}

func (d *hashDir) ReadDirAll(context.Context) ([]fuse.Dirent, error) {
	all := make(map[chunk.Ref]fuse.DirentType)
	if p, ok := d.t.lib.(Pinned); ok {
		for _, r := range p.Pinned() {
			all[r] = fuse.DT_Unknown
		}
	}
	d.mu.Lock()
	for r, typ := range d.opened {
		all[r] = typ
	}
	d.mu.Unlock()
	ents := make([]fuse.Dirent, 0, len(all))
	for r, typ := range all {
		name := r.Name()
		if len(name) > nameMax {
			continue
		}
		ino := placeInode(inodeHash, name)
		if typ == fuse.DT_File {
			ino = fileInode(r)
		}
		ents = append(ents, fuse.Dirent{Inode: ino, Type: typ, Name: name})
	}
	return ents, nil
}
