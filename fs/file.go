package fs

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"

	"wanderfs/cache/chunk"
)

// file is one file of content: one node, one inode and one page cache under
// whatever names it is reached.
type file struct {
	readonly
	t   *tree
	ref chunk.Ref

	mu       sync.Mutex
	root     chunk.Ref // guarded by mu; where it was last found
	named    bool      // guarded by mu; was found by itself once, not within a folder
	size     int64     // guarded by mu
	verified bool      // guarded by mu; size is no mere claim
	why      string    // guarded by mu; why the last read failed
}

// file returns the node of r. A verified size replaces a claimed one.
func (t *tree) file(root, r chunk.Ref, size int64, verified bool) *file {
	t.mu.Lock()
	f := t.files[r]
	if f == nil {
		f = &file{t: t, ref: r, size: size, verified: verified}
		t.files[r] = f
	}
	t.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.root, f.named = root, f.named || root == r
	if verified && !f.verified {
		f.size, f.verified = size, true
	}
	return f
}

func (t *tree) knownFile(r chunk.Ref) *file {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.files[r]
}

// Forget is told by the kernel when no name leads here any more.
func (f *file) Forget() {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if f.t.files[f.ref] == f {
		delete(f.t.files, f.ref)
	}
}

// isNamed reports whether the file is verified; it takes down that it was found
// by itself then.
func (f *file) isNamed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.named = f.named || f.verified
	return f.verified
}

func (f *file) Attr(_ context.Context, a *fuse.Attr) error {
	f.t.owned(a, 0o644)
	a.Inode = fileInode(f.ref)
	f.mu.Lock()
	defer f.mu.Unlock()
	setSize(a, f.size)
	a.Valid = brief
	if f.verified {
		a.Valid = forever
	}
	return nil
}

// Open may wait for the network, no longer than a look-up.
func (f *file) Open(ctx context.Context, req *fuse.OpenRequest, resp *fuse.OpenResponse) (fusefs.Handle, error) {
	if !req.Flags.IsReadOnly() {
		return nil, eROFS
	}
	f.mu.Lock()
	root, named := f.root, f.named
	f.mu.Unlock()
	c, cancel := f.t.wait(ctx, f.t.cfg.LookupTimeout)
	defer cancel()
	of, err := f.t.lib.Open(c, root, f.ref)
	if err != nil {
		f.failed(err)
		return nil, errno(ctx, err)
	}
	stale := f.settle(of.Size())
	if named {
		f.t.hash.note(f.ref, fuse.DT_File)
	} else { // the user opened the folder that holds it
		f.t.hash.note(root, fuse.DT_Dir)
	}
	resp.Flags |= fuse.OpenKeepCache
	if stale { // past its cache, where the kernel would end at the size that it was told
		resp.Flags = resp.Flags&^fuse.OpenKeepCache | fuse.OpenDirectIO
	}
	return &fileHandle{f: f, of: of}, nil
}

// settle takes the true size and reports whether the kernel was told another.
// It is told to ask again then, from elsewhere: it may wait for a lock that this
// request holds.
func (f *file) settle(size int64) (stale bool) {
	f.mu.Lock()
	stale = f.size != size
	f.size, f.verified = size, true
	f.mu.Unlock()
	if stale && f.t.server != nil {
		f.t.wg.Go(func() { f.t.server.invalidateAttr(f) })
	}
	return stale
}

func (f *file) failed(err error) {
	why := "read failed"
	switch {
	case errors.Is(err, context.Canceled):
		return
	case errors.Is(err, ErrNoSource), errors.Is(err, context.DeadlineExceeded):
		why = ErrNoSource.Error()
	case errors.Is(err, ErrStalled):
		why = ErrStalled.Error()
	}
	f.mu.Lock()
	f.why = why
	f.mu.Unlock()
}

func (f *file) lastError() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.why
}

// fileHandle is one opened file.
type fileHandle struct {
	f  *file
	of File

	mu     sync.Mutex
	failed error     // of the last read; guarded by mu
	until  time.Time // how long it answers for reads that follow at once; guarded by mu
}

// again is how long a read that ran into its deadline answers for the next
// ones. The kernel asks again, page by page, for what reading ahead did not
// get; the program would wait for the deadline once more each time.
const again = time.Second // ours

// recent returns the error of a read that failed just now.
func (h *fileHandle) recent() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.until) {
		return h.failed
	}
	return nil
}

func (h *fileHandle) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed, h.until = err, time.Now().Add(again)
}

func (h *fileHandle) Read(ctx context.Context, req *fuse.ReadRequest, resp *fuse.ReadResponse) error {
	p := resp.Data[:0]
	if cap(p) < req.Size {
		p = make([]byte, 0, req.Size)
	}
	if err := h.recent(); err != nil {
		return errno(ctx, err)
	}
	n, err := h.readAt(ctx, p[:req.Size], req.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		// A part must not be returned: the kernel takes it for the end.
		h.f.failed(err)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = ErrStalled
		}
		if errors.Is(err, ErrStalled) || errors.Is(err, ErrNoSource) {
			h.note(err)
		}
		return errno(ctx, err)
	}
	resp.Data = p[:n]
	return nil
}

// readHeld reads what is here already. It waits for no network, so nothing
// interrupts it.
func (h *fileHandle) readHeld(p []byte, off int64) (int, bool) {
	l, ok := h.of.(Local)
	if !ok {
		return 0, false
	}
	return l.ReadLocal(p, off)
}

// readAt reads as long as there is progress.
func (h *fileHandle) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	limit := h.f.t.cfg.ReadTimeout
	pr, ok := h.of.(Progress)
	if !ok {
		c, cancel := h.f.t.wait(ctx, limit)
		defer cancel()
		n, err := h.of.ReadAt(c, p, off)
		if err != nil && c.Err() != nil && errors.Is(c.Err(), context.DeadlineExceeded) {
			err = ErrStalled
		}
		return n, err
	}
	c, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.f.t.ctx, func() { cancel(context.Canceled) })()
	w := &watchdog{pr: pr, every: limit, seen: pr.Progress(), bark: func() { cancel(ErrStalled) }}
	w.start()
	defer w.stop()
	n, err := h.of.ReadAt(c, p, off)
	if err != nil && errors.Is(context.Cause(c), ErrStalled) {
		err = ErrStalled
	}
	return n, err
}

// watchdog barks when a counter has not moved during every.
type watchdog struct {
	pr    Progress
	every time.Duration
	bark  func()

	mu    sync.Mutex
	seen  int64       // guarded by mu
	done  bool        // guarded by mu
	timer *time.Timer // guarded by mu
}

func (w *watchdog) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.every, w.look)
}

func (w *watchdog) look() {
	now := w.pr.Progress()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return
	}
	if now == w.seen {
		w.bark()
		return
	}
	w.seen = now
	w.timer.Reset(w.every)
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.timer.Stop()
}

func (h *fileHandle) Release(context.Context, *fuse.ReleaseRequest) error {
	_ = h.of.Close()
	return nil
}

// link is a symlink of content that stays inside its folder.
type link struct {
	readonly
	t      *tree
	inode  uint64
	target string
}

func (l link) Attr(_ context.Context, a *fuse.Attr) error {
	l.t.owned(a, 0o777)
	a.Mode |= modeSymlink
	a.Inode, a.Valid = l.inode, forever
	a.Size = uint64(len(l.target))
	return nil
}

func (l link) Readlink(context.Context, *fuse.ReadlinkRequest) (string, error) {
	return l.target, nil
}
