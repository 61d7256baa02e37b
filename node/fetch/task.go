package fetch

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

// Task reads what lies below one root CID, over its own routes and from the
// sessions that share that root. It is a chunk.RangeGetter.
type Task struct {
	f    *Fetcher
	root chunk.Ref
	refs int // guarded by f.mu

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // dials, look-ups, links, verifications
	wake   chan struct{}  // capacity 1: run has something to do
	got    atomic.Int64   // bytes that came over all links, headers too

	mu       sync.Mutex // guards all below, and the fields of fetch, part, req, link
	closed   bool
	fetches  map[chunk.Ref]*fetch
	demanded []*fetch // somebody waits; in order of arrival
	ahead    []*fetch // wanted soon; in order of need
	wants    map[*want]bool
	own      want // of Want
	next     map[*order]*want
	recent   recent
	full     bool // the store kept nothing lately
	links    []*link
	width    int                         // routes wanted at most so far, for speed
	dialTook time.Duration               // the longest that building a route took; 0: none was built
	bad      map[wire.SessionNumber]bool // lied: never asked again
	banned   int                         // searches begun when the last of bad was found out
	find     finding
	rate     meter
	slow     bool                    // its routes bring parts of chunks
	pace     float64                 // bytes/s of the fastest route of late; 0: not known
	done     int64                   // bytes verified, from the network
	files    map[chunk.Ref]*progress // open files
	active   time.Time               // something was last wanted
	moved    time.Time               // bytes last came
	stalled  string                  // why nothing comes, in words
}

func newTask(f *Fetcher, root chunk.Ref) *Task {
	t := &Task{
		f:       f,
		root:    root,
		wake:    make(chan struct{}, 1),
		fetches: make(map[chunk.Ref]*fetch),
		wants:   make(map[*want]bool),
		next:    make(map[*order]*want),
		bad:     make(map[wire.SessionNumber]bool),
		files:   make(map[chunk.Ref]*progress),
		active:  time.Now(),
	}
	t.ctx, t.cancel = context.WithCancel(f.ctx)
	return t
}

// Release says that one user of the task is done. Its routes stay open for a
// while, for whoever comes back.
func (t *Task) Release() {
	t.f.mu.Lock()
	t.refs--
	last := t.refs == 0
	t.f.mu.Unlock()
	if last {
		t.Want(nil)
	}
	t.kick()
}

// Get returns the block of r: from the store, else from the network, verified.
// The error is ErrNotFound, ErrStalled, ErrClosed, chunk.ErrBadName for what
// cannot be asked for, or ctx's.
func (t *Task) Get(ctx context.Context, r chunk.Ref) ([]byte, error) {
	if data, ok := r.Known(); ok {
		return data, nil
	}
	if r.IsZero() {
		return nil, chunk.ErrBadName
	}
	b := t.remembered(r)
	if b == nil {
		if data, err := t.f.cfg.Store.Get(r); err == nil {
			return data, nil
		}
		var err error
		if b, err = t.wait(ctx, r); err != nil {
			return nil, err
		}
	}
	b.kept.Store(true)
	defer b.drop()
	return b.b, nil
}

// ReadRange is like Get, for a part: it copies from off into p and returns how
// many bytes; less than len(p) only at the block's end.
func (t *Task) ReadRange(ctx context.Context, r chunk.Ref, p []byte, off int64) (int, error) {
	if off < 0 || r.IsZero() {
		return 0, chunk.ErrBadName
	}
	data, known := r.Known()
	if !known {
		b := t.remembered(r)
		if b == nil {
			// A store may say io.EOF with the last bytes, as an io.ReaderAt does.
			if n, err := t.f.cfg.Store.ReadRange(r, p, off); err == nil || err == io.EOF {
				return n, nil
			}
			var err error
			if b, err = t.wait(ctx, r); err != nil {
				return 0, err
			}
		}
		defer b.drop()
		data = b.b
	}
	if off >= int64(len(data)) {
		return 0, nil
	}
	n := copy(p, data[off:])
	if !known && off+int64(n) == int64(len(data)) {
		t.mu.Lock()
		t.recent.done(r)
		t.mu.Unlock()
	}
	return n, nil
}

func (t *Task) remembered(r chunk.Ref) *buffer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.recent.find(r)
}

// localOnly in a context says that nothing is asked of the network.
type localOnly struct{}

// errAbsent answers who would have to wait but will not.
var errAbsent = errors.New("not held here")

// wait fetches r, or joins a fetch that runs, and returns its buffer with one
// user more.
func (t *Task) wait(ctx context.Context, r chunk.Ref) (*buffer, error) {
	if ctx.Value(localOnly{}) != nil {
		return nil, errAbsent
	}
	if err := ctx.Err(); err != nil { // what is held was given all the same
		return nil, err
	}
	t.mu.Lock()
	if b := t.recent.find(r); b != nil { // came in the meantime
		t.mu.Unlock()
		return b, nil
	}
	if t.closed {
		t.mu.Unlock()
		return nil, ErrClosed
	}
	f := t.fetches[r]
	if f == nil {
		f = t.newFetchLocked(r)
	}
	if f.demand == 0 {
		f.since, f.after = time.Now(), t.find.begun
		if !f.verifying {
			t.demanded = append(t.demanded, f)
		}
	}
	f.demand++
	t.assignLocked()
	t.mu.Unlock()
	t.kick()

	select {
	case <-f.done:
		return f.buf, f.err
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f.demand--
	if f.finished() {
		if f.buf != nil {
			f.buf.drop()
		}
	} else if f.demand == 0 {
		t.demanded = remove(t.demanded, f)
		t.loosenLocked(f)
	}
	return nil, ctx.Err()
}

// want is what one reader will need soon.
type want struct {
	refs  []chunk.Ref
	sizes map[chunk.Ref]int64 // bytes of blocks, where something claims to know; never written to
}

// Want says what will be read next, the first first; each call replaces the
// one before. It never blocks. What lies beyond Config.Ahead is left out.
func (t *Task) Want(refs []chunk.Ref) { t.setWant(&t.own, refs, nil) }

// wantNext says that r is being read. If files of a folder are read one after
// the other, the next ones are fetched: first blocks, small files whole.
func (t *Task) wantNext(r chunk.Ref) {
	if t.f.cfg.Next < 0 {
		return
	}
	for _, x := range t.f.siblings.reading(t.root, r, t.f.cfg.Next) {
		t.mu.Lock()
		w := t.next[x.order]
		if w == nil {
			w = &want{}
			t.next[x.order] = w
		}
		t.mu.Unlock()
		t.setWant(w, x.refs, x.sizes)
	}
}

func (t *Task) setWant(w *want, refs []chunk.Ref, sizes map[chunk.Ref]int64) {
	limit := int(t.f.cfg.Ahead / chunk.Size)
	coming := make([]bool, len(refs)) // the same ones are wanted again and again; a store takes longer to look
	t.mu.Lock()
	for i, r := range refs {
		coming[i] = t.fetches[r] != nil
	}
	t.mu.Unlock()
	var need []chunk.Ref
	for i, r := range refs {
		if len(need) == limit {
			break
		}
		if _, known := r.Known(); !known && !r.IsZero() && (coming[i] || !t.f.cfg.Store.Has(r)) {
			need = append(need, r)
		}
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	w.refs, w.sizes = need, sizes
	if len(need) > 0 {
		t.wants[w] = true
	} else {
		delete(t.wants, w)
	}
	t.reorderLocked()
	t.assignLocked()
	t.mu.Unlock()
	t.kick()
}

// reorderLocked builds t.ahead anew from what all readers want, one of each in
// turn, and lets go of what nobody wants any more.
func (t *Task) reorderLocked() {
	limit := int(t.f.cfg.Ahead / chunk.Size)
	if t.full {
		limit = min(limit, maxRecent/2)
	}
	old := t.ahead
	for _, f := range old {
		f.ahead = false
	}
	t.ahead = make([]*fetch, 0, limit)
	for i, more := 0, true; more && len(t.ahead) < limit; i++ {
		more = false
		for w := range t.wants {
			if i >= len(w.refs) || len(t.ahead) >= limit {
				continue
			}
			more = true
			f := t.fetches[w.refs[i]]
			if f == nil {
				if b := t.recent.find(w.refs[i]); b != nil {
					b.drop()
					continue
				}
				f = t.newFetchLocked(w.refs[i])
				f.claim = w.sizes[f.ref]
			}
			if f.ahead || f.finished() || f.verifying {
				continue
			}
			f.ahead = true
			t.ahead = append(t.ahead, f)
		}
	}
	for _, f := range old {
		if !f.ahead {
			t.loosenLocked(f)
		}
	}
}

func (t *Task) newFetchLocked(r chunk.Ref) *fetch {
	f := &fetch{ref: r, done: make(chan struct{}), since: time.Now(), after: t.find.begun}
	t.fetches[r] = f
	t.active = f.since
	return f
}

// loosenLocked stops f if nobody wants it: requests not begun are taken back,
// a chunk on its way is let in.
func (t *Task) loosenLocked(f *fetch) {
	if f.demand > 0 || f.ahead || f.verifying || f.finished() {
		return
	}
	begun := false
	for _, p := range f.parts {
		for _, q := range append([]*req(nil), p.reqs...) {
			if q.begun && len(f.parts) == 1 {
				begun = true
				continue
			}
			t.takeBackLocked(q)
		}
	}
	if begun {
		return
	}
	t.forgetLocked(f)
	t.assignLocked()
}

// forgetLocked ends f without a result.
func (t *Task) forgetLocked(f *fetch) {
	if !f.verifying { // else settle has them
		f.freeParts()
	}
	if t.fetches[f.ref] == f {
		delete(t.fetches, f.ref)
	}
	f.dropped = true
}

// failLocked ends f with err for all who wait.
func (t *Task) failLocked(f *fetch, err error) {
	for _, p := range f.parts {
		for _, q := range append([]*req(nil), p.reqs...) {
			t.takeBackLocked(q)
		}
	}
	t.forgetLocked(f)
	t.demanded = remove(t.demanded, f)
	t.ahead = remove(t.ahead, f)
	f.err = err
	close(f.done)
}

func (t *Task) kick() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func remove[T comparable](s []T, x T) []T {
	for i, y := range s {
		if x == y {
			return append(s[:i], s[i+1:]...)
		}
	}
	return s
}
