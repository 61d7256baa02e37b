package fs

import (
	"context"
	"os"
	"sync"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
)

// maxQueries bounds the listing of search/.
const maxQueries = 1000

// searchDir is search/: every name is a folder, and nothing is asked before
// it is opened.
type searchDir struct {
	readonly
	t *tree

	mu      sync.Mutex
	queries map[string]*query // guarded by mu; those that the kernel knows or that were opened
	history []string          // guarded by mu; opened in this run, oldest first
}

func newSearchDir(t *tree) *searchDir {
	return &searchDir{t: t, queries: make(map[string]*query)}
}

func (d *searchDir) Attr(_ context.Context, a *fuse.Attr) error {
	d.t.owned(a, os.ModeDir|0o755)
	a.Inode, a.Valid, a.Mtime = inodeSearch, brief, d.t.start
	return nil
}

// Lookup is local: every query is a folder. It is not there for a call that
// is about to make it, or the kernel would refuse mkdir by itself.
func (d *searchDir) Lookup(_ context.Context, req *fuse.LookupRequest, resp *fuse.LookupResponse) (fusefs.Node, error) {
	if junk(req.Name) {
		return nil, eNOENT
	}
	if !d.kept(req.Name) && creating(req.Pid, req.Name) {
		return nil, eNOENT
	}
	resp.EntryValid = 0
	return d.query(req.Name), nil
}

func (d *searchDir) query(name string) *query {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queries[name]
	if q == nil {
		q = newQuery(d, name)
		d.queries[name] = q
	}
	return q
}

func (d *searchDir) kept(name string) bool {
	for _, k := range d.t.lib.Kept() {
		if k == name {
			return true
		}
	}
	return false
}

// Mkdir makes a query standing.
func (d *searchDir) Mkdir(ctx context.Context, req *fuse.MkdirRequest) (fusefs.Node, error) {
	if junk(req.Name) {
		return nil, eROFS
	}
	if err := d.t.lib.Keep(req.Name); err != nil {
		return nil, local(err)
	}
	return d.query(req.Name), nil
}

// Remove ends a standing query and takes an opened one from the listing.
func (d *searchDir) Remove(ctx context.Context, req *fuse.RemoveRequest) error {
	if !req.Dir {
		return eROFS
	}
	if d.kept(req.Name) {
		if err := d.t.lib.Drop(req.Name); err != nil {
			return local(err)
		}
	}
	d.mu.Lock()
	q := d.queries[req.Name]
	for i, name := range d.history {
		if name == req.Name {
			d.history = append(d.history[:i], d.history[i+1:]...)
			break
		}
	}
	d.mu.Unlock()
	if q != nil {
		q.stop()
	}
	return nil
}

// note remembers that a query was opened.
func (d *searchDir) note(q *query) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range d.history {
		if name == q.name {
			return
		}
	}
	if len(d.history) >= maxQueries {
		d.history = d.history[1:]
	}
	d.history = append(d.history, q.name)
}

// forget is told when the kernel knows a query no more.
func (d *searchDir) forget(q *query) {
	d.mu.Lock()
	if d.queries[q.name] == q {
		delete(d.queries, q.name)
	}
	d.mu.Unlock()
	q.stop()
}

func (d *searchDir) ReadDirAll(context.Context) ([]fuse.Dirent, error) {
	names := make(map[string]bool)
	for _, k := range d.t.lib.Kept() {
		names[k] = validShown(k)
	}
	d.mu.Lock()
	for _, name := range d.history {
		names[name] = true
	}
	d.mu.Unlock()
	var ents []fuse.Dirent
	for name, ok := range names {
		if ok {
			ents = append(ents, fuse.Dirent{Inode: placeInode(inodeSearch, name), Type: fuse.DT_Dir, Name: name})
		}
	}
	return ents, nil
}

func (d *searchDir) close() {
	d.mu.Lock()
	all := make([]*query, 0, len(d.queries))
	for _, q := range d.queries {
		all = append(all, q)
	}
	d.mu.Unlock()
	for _, q := range all {
		q.stop()
	}
}
