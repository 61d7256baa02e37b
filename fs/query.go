package fs

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"

	"wanderfs/cache/chunk"
)

const (
	askAgain   = time.Second      // an empty answer is asked for again after this
	staleAfter = 30 * time.Second // an older answer is waited for anew
	idleAfter  = 5 * time.Minute  // results that nobody looks at are closed
)

// query is one folder of search/.
//
//	idle --open--> asking --results--> live --no use for idleAfter--> idle
//	                  \--deadline--> idle (an empty folder)
//
// While live, a goroutine takes over what the Library still finds.
type query struct {
	readonly
	t     *tree
	d     *searchDir
	name  string
	inode uint64

	mu     sync.Mutex
	asking chan struct{}             // guarded by mu; closed when the running ask is over
	err    error                     // guarded by mu; of the last ask
	asked  time.Time                 // guarded by mu; when the last ask was over
	used   time.Time                 // guarded by mu
	change time.Time                 // guarded by mu; when the listing changed
	res    Results                   // guarded by mu; nil when idle
	end    chan struct{}             // guarded by mu; closed to end the watcher of res
	all    *listing[chunk.Result]    // guarded by mu
	plain  map[string]chunk.Result   // guarded by mu
	dirs   map[string]*dir           // guarded by mu; results that the kernel knows
	stats  map[chunk.Ref]chunk.Entry // guarded by mu; what was a claim and is known now
}

func newQuery(d *searchDir, name string) *query {
	now := time.Now()
	return &query{t: d.t, d: d, name: name, inode: placeInode(inodeSearch, name), change: now,
		all: newListing(map[string]chunk.Result{}), dirs: make(map[string]*dir), stats: make(map[chunk.Ref]chunk.Entry)}
}

func (q *query) Attr(_ context.Context, a *fuse.Attr) error {
	q.t.owned(a, os.ModeDir|0o755)
	a.Inode, a.Valid = q.inode, brief
	q.mu.Lock()
	defer q.mu.Unlock()
	a.Mtime, a.Ctime = q.change, q.change
	return nil
}

// Forget is told by the kernel when it drops the folder from its caches. An
// opened query stays: its results are wanted again soon.
func (q *query) Forget() {
	q.mu.Lock()
	live := q.res != nil || q.asking != nil
	q.mu.Unlock()
	if !live {
		q.d.forget(q)
	}
}

// Open asks the network. It waits for the first results when there are none
// or only old ones, else it shows what is there and asks again meanwhile.
func (q *query) Open(ctx context.Context, req *fuse.OpenRequest, _ *fuse.OpenResponse) (fusefs.Handle, error) {
	if !req.Flags.IsReadOnly() {
		return nil, eROFS
	}
	q.d.note(q)
	if err := q.ask(ctx); err != nil {
		return nil, errno(ctx, err)
	}
	return &queryHandle{q: q}, nil
}

// ask makes sure that the results are of now.
func (q *query) ask(ctx context.Context) error {
	q.mu.Lock()
	now := time.Now()
	q.used = now
	age := now.Sub(q.asked)
	empty := len(q.all.names) == 0
	if q.asking == nil && (q.res == nil || age > askAgain) {
		done := make(chan struct{})
		q.asking = done
		q.t.wg.Go(func() { q.run(done) })
	}
	wait := q.asking
	if wait == nil || !empty && age <= staleAfter {
		q.mu.Unlock()
		return nil
	}
	q.mu.Unlock()
	select {
	case <-wait:
	case <-ctx.Done():
		return ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// run is one ask. It is not the caller's: who interrupts his ls does not
// end the search for others.
func (q *query) run(done chan struct{}) {
	c, cancel := context.WithTimeout(q.t.ctx, q.t.cfg.SearchTimeout)
	defer cancel()
	res, err := q.t.lib.Search(c, q.name)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNoSource) {
		err = nil // nothing was found in time: an empty folder
	}
	q.mu.Lock()
	q.asked, q.err, q.asking = time.Now(), err, nil
	old := q.res
	if res != nil {
		if q.end != nil {
			close(q.end)
		}
		q.res, q.end = res, make(chan struct{})
		end := q.end
		q.t.wg.Go(func() { q.watch(res, end) })
	}
	q.mu.Unlock()
	if res != nil {
		if old != nil {
			old.Close()
		}
		q.take(res)
	}
	close(done)
}

// watch takes over later results until they are closed.
func (q *query) watch(res Results, end chan struct{}) {
	idle := time.NewTicker(idleAfter / 5)
	defer idle.Stop()
	changed := res.Changed()
	for {
		select {
		case <-end:
			return
		case <-q.t.ctx.Done():
			return
		case <-idle.C:
			q.mu.Lock()
			old := time.Since(q.used) > idleAfter && !q.d.kept(q.name)
			q.mu.Unlock()
			if old {
				q.stop()
				return
			}
		case _, ok := <-changed:
			if !ok { // closed for one change, or for good
				next := res.Changed()
				if next == changed {
					next = nil
				}
				changed = next
			}
			q.take(res)
		}
	}
}

// take shows what res holds now and tells the kernel what is gone.
func (q *query) take(res Results) {
	all, plain := resultNames(res.List())
	q.mu.Lock()
	if q.res != res {
		q.mu.Unlock()
		return
	}
	var gone []string
	for name, r := range q.all.by {
		if all.by[name].Ref != r.Ref {
			gone = append(gone, name)
			delete(q.dirs, name)
		}
	}
	same := len(gone) == 0 && len(all.names) == len(q.all.names)
	q.all, q.plain = all, plain
	if !same {
		q.change = time.Now()
	}
	q.mu.Unlock()
	if same || q.t.server == nil {
		return
	}
	q.t.server.invalidateAttr(q)
	for _, name := range gone {
		q.t.server.invalidateEntry(q, name)
	}
}

// stop closes the results; the folder stays and asks anew when opened.
func (q *query) stop() {
	q.mu.Lock()
	res, end := q.res, q.end
	q.res, q.end, q.asked = nil, nil, time.Time{}
	q.all, q.plain = newListing(map[string]chunk.Result{}), nil
	q.mu.Unlock()
	if end != nil {
		close(end)
	}
	if res != nil {
		res.Close()
	}
}

// Lookup finds a result. It asks the network when this query was not asked
// before, so that a remembered path works in a new run.
func (q *query) Lookup(ctx context.Context, req *fuse.LookupRequest, resp *fuse.LookupResponse) (fusefs.Node, error) {
	if junk(req.Name) {
		return nil, eNOENT
	}
	r, ok := q.result(req.Name)
	if !ok {
		q.mu.Lock()
		fresh := q.res != nil && time.Since(q.asked) < staleAfter
		q.mu.Unlock()
		if fresh {
			return nil, eNOENT
		}
		q.d.note(q)
		if err := q.ask(ctx); err != nil {
			return nil, errno(ctx, err)
		}
		if r, ok = q.result(req.Name); !ok {
			return nil, eNOENT
		}
	}
	e, err := q.stat(ctx, r)
	if err != nil {
		return nil, err
	}
	resp.EntryValid = entryLife
	switch e.Kind {
	case chunk.File:
		_, known := q.known(r.Ref)
		return q.t.file(r.Ref, r.Ref, e.Size, known), nil
	case chunk.Folder:
		return q.child(req.Name, r.Ref), nil
	}
	return nil, eNOENT
}

func (q *query) result(name string) (chunk.Result, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used = time.Now()
	if r, ok := q.all.by[name]; ok {
		return r, true
	}
	r, ok := q.plain[name]
	return r, ok
}

func (q *query) known(r chunk.Ref) (chunk.Entry, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, ok := q.stats[r]
	return e, ok
}

// stat believes the publisher's claim of kind and size until the content is
// opened: asking for every name would make ls wait for every source.
func (q *query) stat(ctx context.Context, r chunk.Result) (chunk.Entry, error) {
	if e, ok := q.known(r.Ref); ok {
		return e, nil
	}
	if r.Kind == chunk.File || r.Kind == chunk.Folder {
		return chunk.Entry{Ref: r.Ref, Kind: r.Kind, Size: r.Size}, nil
	}
	e, err := q.t.stat(ctx, r.Ref, r.Ref)
	if err != nil {
		return e, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats[r.Ref] = e
	return e, nil
}

func (q *query) child(name string, r chunk.Ref) *dir {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.dirs[name]
	if c == nil || c.ref != r {
		c = newDir(q.t, q, name, placeInode(q.inode, name), r, r, 0, 0)
		q.dirs[name] = c
	}
	return c
}

// forget is told when the kernel knows a result no more.
func (q *query) forget(c *dir) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dirs[c.name] == c {
		delete(q.dirs, c.name)
	}
}

// queryHandle is one opened query. Rewinding it shows later results.
type queryHandle struct{ q *query }

func (h *queryHandle) ReadDirAll(context.Context) ([]fuse.Dirent, error) {
	h.q.mu.Lock()
	all := h.q.all
	h.q.used = time.Now()
	h.q.mu.Unlock()
	ents := make([]fuse.Dirent, 0, len(all.names))
	for _, name := range all.names {
		r := all.by[name]
		kind := r.Kind
		if kind == chunk.Symlink {
			continue
		}
		ents = append(ents, dirent(h.q.inode, name, kind, r.Ref))
	}
	return ents, nil
}

// Getxattr tells about the query itself: .pin is "1" for a standing one,
// .state says whether it is being asked, .error why it found nothing.
func (q *query) Getxattr(_ context.Context, req *fuse.GetxattrRequest, resp *fuse.GetxattrResponse) error {
	q.mu.Lock()
	res, asking, err := q.res, q.asking, q.err
	q.mu.Unlock()
	value, ok := "", false
	switch req.Name {
	case xattrPrefix + "pin":
		value, ok = "0", true
		if q.d.kept(q.name) {
			value = "1"
		}
	case xattrPrefix + "state":
		value, ok = "idle", true
		if asking != nil {
			value = "asking"
		} else if res != nil {
			value = "live"
		}
	case xattrPrefix + "error":
		if err == nil && res != nil {
			err = res.Err()
		}
		if err != nil {
			value, ok = err.Error(), true
		}
	}
	return answerXattr(value, ok, req.Name, resp)
}

// Setxattr of .pin is another way to mkdir and rmdir.
func (q *query) Setxattr(ctx context.Context, req *fuse.SetxattrRequest) error {
	on, err := pin(req.Name, req.Xattr)
	if err != nil {
		return err
	}
	if on == q.d.kept(q.name) {
		return nil
	}
	if on {
		return local(q.t.lib.Keep(q.name))
	}
	return local(q.t.lib.Drop(q.name))
}
