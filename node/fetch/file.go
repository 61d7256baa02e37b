package fetch

import (
	"context"
	"io"
	"math"
	"sync"

	"wanderfs/cache/chunk"
)

const (
	quiet     = 128 << 10 // bytes; who reads no further (a thumbnailer) causes no reading ahead
	nearby    = 512 << 10 // bytes; a read that begins so near to the last one's end goes on with it
	growEvery = 512 << 10 // bytes read in sequence that double the window
	askEvery  = 256 << 10 // bytes read until the next look ahead
)

// File is an open file. It reads ahead of who reads in sequence. ReadAt may be
// called from many goroutines at once.
type File struct {
	t   *Task
	r   *chunk.Reader
	ref chunk.Ref

	ctx    context.Context
	here   context.Context // ctx, but nothing is asked of the network
	cancel context.CancelFunc
	wg     sync.WaitGroup
	look   chan struct{} // capacity 1: look has a new position
	want   want

	mu     sync.Mutex
	next   int64 // where a sequential read would go on; guarded by mu
	run    int64 // bytes read in sequence; guarded by mu
	asked  int64 // value of run at the last look; guarded by mu
	start  int64 // where the last read began; guarded by mu
	ahead  int64 // bytes to have beyond next; guarded by mu
	begun  bool  // look runs; guarded by mu
	read   bool  // it was read from; guarded by mu
	closed bool  // guarded by mu
}

// Open opens the file r below root, from the store or the network. Errors are
// those of chunk.OpenFile and Task.Get. Close the File when done.
func (f *Fetcher) Open(ctx context.Context, root, r chunk.Ref) (*File, error) {
	t := f.Task(root)
	cr, err := chunk.OpenFile(ctx, t, r)
	if err != nil {
		t.Release()
		return nil, err
	}
	x := &File{t: t, r: cr, ref: r, look: make(chan struct{}, 1)}
	x.ctx, x.cancel = context.WithCancel(t.ctx)
	x.here = context.WithValue(x.ctx, localOnly{}, true)
	t.mu.Lock()
	p := t.files[r]
	if p == nil {
		p = newProgress(cr.Size())
		t.files[r] = p
	}
	p.users++
	t.mu.Unlock()
	return x, nil
}

// Size returns the file's length in bytes.
func (x *File) Size() int64 { return x.r.Size() }

// Close ends reading ahead. It may be called twice; a ReadAt that runs goes on.
func (x *File) Close() error {
	x.mu.Lock()
	was := x.closed
	x.closed = true
	x.mu.Unlock()
	if was {
		return nil
	}
	x.cancel()
	x.wg.Wait()
	x.t.setWant(&x.want, nil, nil)
	x.t.mu.Lock()
	if p := x.t.files[x.ref]; p != nil {
		if p.users--; p.users == 0 {
			delete(x.t.files, x.ref)
		}
	}
	x.t.mu.Unlock()
	x.t.Release()
	return nil
}

// ReadAt reads len(p) bytes from off, fewer only with an error: io.EOF at the
// end, ErrNotFound, ErrStalled, ctx's.
func (x *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if x.note(off, int64(len(p))) {
		x.t.wantNext(x.ref)
	}
	n, err := x.r.ReadAt(ctx, p, off)
	switch {
	case err == nil || err == io.EOF:
		x.settle(off, n)
	case ctx.Err() == nil:
		if s := x.t.f.State(x.t.root); s.Err != "" {
			x.t.f.note(x.ref, s.Err)
		}
	}
	return n, err
}

// ReadLocal is ReadAt for bytes that are held here; it waits for no peer. It
// reports false if some are not, or if the read fails; ReadAt then says why. At
// the file's end it reads fewer bytes.
func (x *File) ReadLocal(p []byte, off int64) (int, bool) {
	n, err := x.r.ReadAt(x.here, p, off)
	if err != nil && err != io.EOF {
		return 0, false
	}
	if x.note(off, int64(len(p))) {
		x.t.wantNext(x.ref)
	}
	x.settle(off, n)
	return n, true
}

// settle counts n bytes that were read, and forgets an old failure.
func (x *File) settle(off int64, n int) {
	x.t.mu.Lock()
	if s := x.t.files[x.ref]; s != nil {
		s.mark(off, int64(n))
	}
	x.t.mu.Unlock()
	if n > 0 {
		x.t.f.clear(x.ref, x.t.root)
	}
}

// note decides from where the reads go what will be read next, and reports
// whether this read is the first.
func (x *File) note(off, n int64) (first bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	first, x.read = !x.read, true
	x.noteLocked(off, n)
	return first
}

func (x *File) noteLocked(off, n int64) {
	end := off + n
	if off >= x.next-nearby && off <= x.next+nearby {
		if end > x.next {
			x.run += end - x.next
			x.next = end
		}
	} else { // a seek: begin anew
		x.run, x.next, x.asked, x.ahead = n, end, 0, 0
		if x.begun {
			x.signal()
		}
	}
	x.start = off
	first := x.run == n
	if n <= chunk.Size && (x.run <= quiet || first && off > 0) {
		return
	}
	// A single read of several chunks has all of them fetched together.
	x.ahead = 0
	if !first || off == 0 && n <= chunk.Size {
		x.ahead = x.t.f.cfg.Ahead
		if grow := x.run / growEvery; grow < 16 {
			x.ahead = min(x.ahead, chunk.Size<<grow)
		}
	}
	if x.begun && x.run-x.asked < askEvery && !first {
		return
	}
	x.asked = x.run
	if !x.begun {
		x.begun = true
		x.wg.Go(x.lookAhead)
	}
	x.signal()
}

func (x *File) signal() {
	select {
	case x.look <- struct{}{}:
	default:
	}
}

// lookAhead tells the task what will be read next. It waits for inner nodes,
// so that no reader has to.
func (x *File) lookAhead() {
	for {
		select {
		case <-x.look:
		case <-x.ctx.Done():
			return
		}
		x.mu.Lock()
		from, n := x.start, max(0, x.next-x.start)+x.ahead
		if x.ahead == 0 && n <= chunk.Size {
			n = 0
		}
		x.mu.Unlock()
		var refs []chunk.Ref
		if n > 0 {
			// An error shows itself when it is read.
			refs, _ = x.r.Leaves(x.ctx, from, n)
		}
		x.t.setWant(&x.want, refs, nil)
	}
}

// clear forgets why reading refs failed: it works now.
func (f *Fetcher) clear(refs ...chunk.Ref) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) == 0 {
		return
	}
	for _, r := range refs {
		delete(f.errs, r)
	}
}

// samples bounds how many chunks Cached looks at.
const samples = 1024

// Cached returns how much of the file r is in the store, in percent: exactly
// for files up to 1 GiB, by samples beyond. It never asks the network.
func (f *Fetcher) Cached(ctx context.Context, r chunk.Ref) int {
	g := local{f.cfg.Store}
	cr, err := chunk.OpenFile(ctx, g, r)
	if err != nil {
		return 0
	}
	if cr.Size() == 0 || r.IsRaw() {
		return 100
	}
	units := (cr.Size()-1)/chunk.Size + 1
	n := min(units, samples)
	held := int64(0)
	for i := range n {
		// A float keeps sizes that a stranger made up from overflowing.
		off := int64(math.Round(float64(i)/float64(n)*float64(units))) * chunk.Size
		if refs, err := cr.Leaves(ctx, min(off, cr.Size()-1), 1); err == nil && len(refs) > 0 && f.cfg.Store.Has(refs[0]) {
			held++
		}
	}
	return int(held * 100 / n)
}

// local is a Getter that asks nobody.
type local struct{ s Store }

func (l local) Get(_ context.Context, r chunk.Ref) ([]byte, error) {
	if b, ok := r.Known(); ok {
		return b, nil
	}
	return l.s.Get(r)
}

// Progress counts the bytes that have come for x's task, verified or not. It
// only grows: a reader that waits may go on waiting while it does.
func (x *File) Progress() int64 { return x.t.got.Load() }
