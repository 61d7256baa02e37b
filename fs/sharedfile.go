package fs

import (
	"context"
	"sync"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
	"golang.org/x/sys/unix"
)

// sharedFile is a file, symlink, FIFO or socket below shared/.
type sharedFile struct {
	sharedNode
	mu      sync.Mutex
	handles map[*sharedHandle]struct{} // guarded by mu
	writers int                        // guarded by mu; handles that may write
	begun   bool                       // guarded by mu; the Share knows of a change
}

// sharedHandle is an opened file.
type sharedHandle struct {
	n        *sharedFile
	fd       int
	writable bool
}

func (f *sharedFile) Forget() { f.forget(f) }

func (f *sharedFile) Attr(ctx context.Context, a *fuse.Attr) error {
	st, err := f.stat()
	if err == unix.ESTALE { // replaced behind the drive, but open
		f.mu.Lock()
		if h := f.anyLocked(false); h != nil {
			err = unix.Fstat(h.fd, &st)
		}
		f.mu.Unlock()
	}
	if err != nil {
		return local(err)
	}
	fillAttr(a, &st)
	return nil
}

// anyLocked returns an open handle, a writable one if wanted.
func (f *sharedFile) anyLocked(writable bool) *sharedHandle {
	for h := range f.handles {
		if h.writable || !writable {
			return h
		}
	}
	return nil
}

func (f *sharedFile) Readlink(ctx context.Context, _ *fuse.ReadlinkRequest) (target string, err error) {
	err = f.hold(func(fd int) error {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, "", buf)
		if err == nil {
			target = string(buf[:n])
		}
		return err
	})
	return target, local(err)
}

func (f *sharedFile) Open(ctx context.Context, req *fuse.OpenRequest, _ *fuse.OpenResponse) (fusefs.Handle, error) {
	const keep = unix.O_ACCMODE | unix.O_SYNC | unix.O_DSYNC
	fd, err := f.open(int(req.Flags) & keep)
	if err != nil {
		return nil, local(err)
	}
	return f.opened(fd, !req.Flags.IsReadOnly()), nil
}

func (f *sharedFile) opened(fd int, writable bool) *sharedHandle {
	h := &sharedHandle{n: f, fd: fd, writable: writable}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handles[h] = struct{}{}
	if writable {
		f.writers++
	}
	return h
}

// begin tells the Share before the first change, so that no half of a file
// is sent to anybody.
func (f *sharedFile) begin() {
	f.mu.Lock()
	first := !f.begun
	f.begun = true
	f.mu.Unlock()
	if !first {
		return
	}
	if path, err := f.path(); err == nil {
		f.fs.s.BeginWrite(path)
	}
}

func (f *sharedFile) wrote() {
	if path, err := f.path(); err == nil {
		f.fs.s.Wrote(path)
	}
}

// settled tells the Share that nobody writes any more.
func (f *sharedFile) settled() {
	f.mu.Lock()
	over := f.begun && f.writers == 0
	if over {
		f.begun = false
	}
	f.mu.Unlock()
	if !over {
		return
	}
	if path, err := f.path(); err == nil {
		f.fs.s.Closed(path)
	}
}

func (f *sharedFile) Setattr(ctx context.Context, req *fuse.SetattrRequest, _ *fuse.SetattrResponse) error {
	if req.Valid.Size() {
		f.begin()
		err := f.truncate(int64(req.Size))
		f.wrote()
		f.settled()
		if err != nil {
			return local(err)
		}
	}
	f.mu.Lock()
	if h := f.anyLocked(false); h != nil {
		defer f.mu.Unlock()
		return local(change(h.fd, req))
	}
	f.mu.Unlock()
	return local(f.hold(func(fd int) error { return change(fd, req) }))
}

func (f *sharedFile) truncate(size int64) error {
	f.mu.Lock()
	if h := f.anyLocked(true); h != nil {
		defer f.mu.Unlock()
		return finish(func() error { return unix.Ftruncate(h.fd, size) })
	}
	f.mu.Unlock()
	fd, err := f.open(unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return finish(func() error { return unix.Ftruncate(fd, size) })
}

// Fsync returns when the file is on disk.
func (f *sharedFile) Fsync(ctx context.Context, req *fuse.FsyncRequest) error {
	f.mu.Lock()
	fd := -1
	if h := f.anyLocked(false); h != nil {
		fd, _ = unix.FcntlInt(uintptr(h.fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	f.mu.Unlock()
	if fd >= 0 { // a copy: the handle may be released meanwhile
		defer unix.Close(fd)
		if req.Flags&1 != 0 {
			return local(finish(func() error { return unix.Fdatasync(fd) }))
		}
		return local(finish(func() error { return unix.Fsync(fd) }))
	}
	return local(f.sync(req.Flags&1 != 0))
}

func (f *sharedFile) Access(ctx context.Context, req *fuse.AccessRequest) error {
	return local(f.access(req.Mask))
}

func (f *sharedFile) Getxattr(_ context.Context, req *fuse.GetxattrRequest, resp *fuse.GetxattrResponse) error {
	st, err := f.stat()
	if err != nil {
		return noXattr(req.Name)
	}
	return f.getxattr(st.Size, req, resp)
}

func (f *sharedFile) Listxattr(context.Context, *fuse.ListxattrRequest, *fuse.ListxattrResponse) error {
	return nil
}

func (f *sharedFile) Setxattr(ctx context.Context, req *fuse.SetxattrRequest) error {
	return f.setxattr(ctx, req.Name, req.Xattr)
}

func (f *sharedFile) Removexattr(ctx context.Context, req *fuse.RemovexattrRequest) error {
	if req.Name == xattrPrefix+"pin" {
		return f.setxattr(ctx, req.Name, nil)
	}
	return noXattr(req.Name)
}

func (h *sharedHandle) Read(ctx context.Context, req *fuse.ReadRequest, resp *fuse.ReadResponse) error {
	p := resp.Data[:0]
	if cap(p) < req.Size {
		p = make([]byte, 0, req.Size)
	}
	p = p[:req.Size]
	got := 0
	for got < len(p) {
		n, err := unix.Pread(h.fd, p[got:], req.Offset+int64(got))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return local(err)
		}
		if n == 0 {
			break
		}
		got += n
	}
	resp.Data = p[:got]
	return nil
}

// Write writes where the kernel says; it knows the end of the file for
// those who append.
func (h *sharedHandle) Write(ctx context.Context, req *fuse.WriteRequest, resp *fuse.WriteResponse) error {
	h.n.begin()
	defer h.n.wrote()
	for resp.Size < len(req.Data) {
		n, err := unix.Pwrite(h.fd, req.Data[resp.Size:], req.Offset+int64(resp.Size))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			if resp.Size > 0 {
				return nil // the next write tells
			}
			return local(err)
		}
		resp.Size += n
	}
	return nil
}

func (h *sharedHandle) FAllocate(ctx context.Context, req *fuse.FAllocateRequest) error {
	h.n.begin()
	defer h.n.wrote()
	return local(finish(func() error {
		return unix.Fallocate(h.fd, uint32(req.Mode), int64(req.Offset), int64(req.Length))
	}))
}

func (h *sharedHandle) Flush(context.Context, *fuse.FlushRequest) error { return nil }

func (h *sharedHandle) Release(ctx context.Context, _ *fuse.ReleaseRequest) error {
	f := h.n
	f.mu.Lock()
	delete(f.handles, h)
	if h.writable {
		f.writers--
	}
	f.mu.Unlock()
	err := unix.Close(h.fd)
	if h.writable {
		f.settled()
	}
	return local(err)
}
