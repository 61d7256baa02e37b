package fs

import (
	"context"
	"os"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
	"golang.org/x/sys/unix"
)

// make creates a name with fn and returns its node. What fn opens is given
// to own first.
func (d *sharedDir) make(ctx context.Context, name string, fn func(dir int, base string) error) (n sharedChild, path string, err error) {
	err = d.with(func(dir string) error {
		path = join(dir, name)
		if err := d.fs.b.in(path, fn); err != nil {
			return err
		}
		st, err := d.fs.b.lstat(path)
		if err == nil {
			n = d.kidLocked(name, &st)
		}
		return err
	})
	return n, path, local(err)
}

// ownAt is own for what was made without opening it.
func ownAt(dir int, base string, hdr *fuse.Header, mode os.FileMode) error {
	fd, err := unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return own(fd, hdr, mode)
}

// place makes, with fn, a name that is whole as soon as it is there, gives it
// to its owner and tells of it.
func (d *sharedDir) place(ctx context.Context, name string, hdr *fuse.Header, mode os.FileMode, fn func(dir int, base string) error) (fusefs.Node, error) {
	n, path, err := d.make(ctx, name, func(dir int, base string) error {
		if err := fn(dir, base); err != nil {
			return err
		}
		return ownAt(dir, base, hdr, mode)
	})
	if err != nil {
		return nil, err
	}
	d.fs.s.Closed(path)
	return n, nil
}

func (d *sharedDir) Mkdir(ctx context.Context, req *fuse.MkdirRequest) (fusefs.Node, error) {
	return d.place(ctx, req.Name, &req.Header, req.Mode, func(dir int, base string) error {
		return unix.Mkdirat(dir, base, unixMode(req.Mode))
	})
}

func (d *sharedDir) Symlink(ctx context.Context, req *fuse.SymlinkRequest) (fusefs.Node, error) {
	return d.place(ctx, req.NewName, &req.Header, 0o777, func(dir int, base string) error {
		return unix.Symlinkat(req.Target, dir, base)
	})
}

// Link refuses: one file under two names would be withdrawn under one of them.
func (d *sharedDir) Link(context.Context, *fuse.LinkRequest, fusefs.Node) (fusefs.Node, error) {
	return nil, ePERM
}

// Mknod makes what has no device behind it.
func (d *sharedDir) Mknod(ctx context.Context, req *fuse.MknodRequest) (fusefs.Node, error) {
	kind := uint32(unix.S_IFREG)
	switch {
	case req.Mode&os.ModeDevice != 0:
		return nil, ePERM
	case req.Mode&os.ModeNamedPipe != 0:
		kind = unix.S_IFIFO
	case req.Mode&os.ModeSocket != 0:
		kind = unix.S_IFSOCK
	}
	return d.place(ctx, req.Name, &req.Header, req.Mode, func(dir int, base string) error {
		return unix.Mknodat(dir, base, kind|uint32(req.Mode.Perm()), 0)
	})
}

func (d *sharedDir) Create(ctx context.Context, req *fuse.CreateRequest, resp *fuse.CreateResponse) (fusefs.Node, fusefs.Handle, error) {
	const keep = unix.O_ACCMODE | unix.O_EXCL | unix.O_TRUNC | unix.O_SYNC | unix.O_DSYNC
	if path, err := d.path(); err == nil {
		d.fs.s.BeginWrite(join(path, req.Name))
	}
	var fd int
	n, path, err := d.make(ctx, req.Name, func(dir int, base string) (err error) {
		flags := int(req.Flags)&keep | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
		err = finish(func() error {
			fd, err = unix.Openat(dir, base, flags, unixMode(req.Mode))
			return err
		})
		if err != nil {
			return err
		}
		return own(fd, &req.Header, req.Mode)
	})
	if err != nil {
		if path != "" {
			d.fs.s.Closed(path)
		}
		return nil, nil, err
	}
	f, ok := n.(*sharedFile)
	if !ok {
		_ = unix.Close(fd)
		return nil, nil, eISDIR
	}
	resp.EntryValid = brief
	h := f.opened(fd, true)
	f.begin()
	return f, h, nil
}
