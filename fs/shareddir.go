package fs

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
	"golang.org/x/sys/unix"
)

type fusefsNode = fusefs.Node

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// sharedDir is shared/ or a folder below it.
type sharedDir struct {
	sharedNode
	mu   sync.Mutex
	kids map[string]sharedChild // guarded by mu; those that the kernel knows
}

func (d *sharedDir) Attr(ctx context.Context, a *fuse.Attr) error {
	st, err := d.stat()
	if err != nil {
		return local(err)
	}
	fillAttr(a, &st)
	if d.up == nil {
		a.Inode = inodeShared
	}
	return nil
}

func (d *sharedDir) Forget() { d.forget(d) }

// drop forgets kid if it still has that name and was not looked up within age.
func (d *sharedDir) drop(name string, kid sharedChild, age time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kids[name] == kid && (age == 0 || time.Since(kid.base().seen) >= age) {
		delete(d.kids, name)
	}
}

// kidLocked returns the node of a name that the backing directory has. It
// wants fs.names held, for reading.
func (d *sharedDir) kidLocked(name string, st *unix.Stat_t) sharedChild {
	d.mu.Lock()
	defer d.mu.Unlock()
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if k := d.kids[name]; k != nil {
		_, was := k.(*sharedDir)
		if b := k.base(); b.ino == st.Ino && b.dev == uint64(st.Dev) && was == isDir {
			b.seen = time.Now()
			return k
		}
	}
	n := sharedNode{fs: d.fs, up: d, name: name, seen: time.Now(), ino: st.Ino, dev: uint64(st.Dev)}
	var k sharedChild
	if isDir {
		k = &sharedDir{sharedNode: n, kids: make(map[string]sharedChild)}
	} else {
		k = &sharedFile{sharedNode: n, handles: make(map[*sharedHandle]struct{})}
	}
	d.kids[name] = k
	return k
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func (d *sharedDir) Lookup(ctx context.Context, req *fuse.LookupRequest, resp *fuse.LookupResponse) (n fusefs.Node, err error) {
	if len(req.Name) > nameMax {
		return nil, fuse.Errno(unix.ENAMETOOLONG)
	}
	err = d.with(func(path string) error {
		st, err := d.fs.b.lstat(join(path, req.Name))
		if err == nil {
			n = d.kidLocked(req.Name, &st)
		}
		return err
	})
	if err != nil {
		return nil, local(err)
	}
	resp.EntryValid = brief
	return n, nil
}

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

func (d *sharedDir) Mkdir(ctx context.Context, req *fuse.MkdirRequest) (fusefs.Node, error) {
	n, path, err := d.make(ctx, req.Name, func(dir int, base string) error {
		if err := unix.Mkdirat(dir, base, unixMode(req.Mode)); err != nil {
			return err
		}
		return ownAt(dir, base, &req.Header, req.Mode)
	})
	if err != nil {
		return nil, err
	}
	d.fs.s.Closed(path)
	return n, nil
}

func (d *sharedDir) Symlink(ctx context.Context, req *fuse.SymlinkRequest) (fusefs.Node, error) {
	n, path, err := d.make(ctx, req.NewName, func(dir int, base string) error {
		if err := unix.Symlinkat(req.Target, dir, base); err != nil {
			return err
		}
		return ownAt(dir, base, &req.Header, 0o777)
	})
	if err != nil {
		return nil, err
	}
	d.fs.s.Closed(path)
	return n, nil
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
	n, path, err := d.make(ctx, req.Name, func(dir int, base string) error {
		if err := unix.Mknodat(dir, base, kind|uint32(req.Mode.Perm()), 0); err != nil {
			return err
		}
		return ownAt(dir, base, &req.Header, req.Mode)
	})
	if err != nil {
		return nil, err
	}
	d.fs.s.Closed(path)
	return n, nil
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

// Remove unlinks a file or removes an empty folder.
func (d *sharedDir) Remove(ctx context.Context, req *fuse.RemoveRequest) error {
	path, err := d.unlink(req)
	if err != nil {
		return local(err)
	}
	d.fs.s.Removed(path)
	return nil
}

func (d *sharedDir) unlink(req *fuse.RemoveRequest) (path string, err error) {
	d.fs.names.Lock()
	defer d.fs.names.Unlock()
	if path, err = d.pathLocked(); err != nil {
		return "", err
	}
	path = join(path, req.Name)
	return path, d.fs.b.in(path, func(dir int, base string) error {
		flags := 0
		if req.Dir {
			flags = unix.AT_REMOVEDIR
		}
		return d.replaceLocked(req.Name, dir, base, func() error { return unix.Unlinkat(dir, base, flags) })
	})
}

// replaceLocked does what takes name from what bears it, keeping hold of it
// for those who have it open. It wants fs.names held for writing.
func (d *sharedDir) replaceLocked(name string, dir int, base string, do func() error) error {
	d.mu.Lock()
	k := d.kids[name]
	d.mu.Unlock()
	fd := -1
	if k != nil {
		if got, err := unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
			fd = got
		}
	}
	if err := do(); err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return err
	}
	if k != nil {
		k.base().killLocked(fd)
		d.drop(name, k, 0)
	}
	return nil
}

// Rename moves within shared; the name of what is there is taken over in one
// step. Out of shared is into what cannot be written.
func (d *sharedDir) Rename(ctx context.Context, req *fuse.RenameRequest, newDir fusefs.Node) error {
	to, ok := newDir.(*sharedDir)
	if !ok {
		return eROFS
	}
	from, into, err := d.rename(req.OldName, to, req.NewName)
	if err != nil {
		return local(err)
	}
	d.fs.s.Renamed(from, into)
	return nil
}

func (d *sharedDir) rename(oldName string, to *sharedDir, newName string) (from, into string, err error) {
	d.fs.names.Lock()
	defer d.fs.names.Unlock()
	if from, err = d.pathLocked(); err != nil {
		return "", "", err
	}
	if into, err = to.pathLocked(); err != nil {
		return "", "", err
	}
	from, into = join(from, oldName), join(into, newName)
	if from == into {
		return from, into, nil
	}
	err = d.fs.b.in(from, func(dir int, base string) error {
		return d.fs.b.in(into, func(dir2 int, base2 string) error {
			return to.replaceLocked(newName, dir2, base2, func() error {
				return unix.Renameat(dir, base, dir2, base2)
			})
		})
	})
	if err != nil {
		return "", "", err
	}
	d.mu.Lock()
	k := d.kids[oldName]
	delete(d.kids, oldName)
	d.mu.Unlock()
	if k != nil {
		k.base().up, k.base().name = to, newName
		to.mu.Lock()
		to.kids[newName] = k
		to.mu.Unlock()
	}
	return from, into, nil
}

func (d *sharedDir) Setattr(ctx context.Context, req *fuse.SetattrRequest, _ *fuse.SetattrResponse) error {
	if req.Valid.Size() {
		return eISDIR
	}
	return local(d.hold(func(fd int) error { return change(fd, req) }))
}

func (d *sharedDir) Fsync(ctx context.Context, _ *fuse.FsyncRequest) error {
	return local(d.sync(false))
}

func (d *sharedDir) Access(ctx context.Context, req *fuse.AccessRequest) error {
	return local(d.access(req.Mask))
}

// Open opens the folder itself, to say at once what hinders.
func (d *sharedDir) Open(ctx context.Context, _ *fuse.OpenRequest, _ *fuse.OpenResponse) (fusefs.Handle, error) {
	fd, err := d.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return nil, local(err)
	}
	return &sharedDirHandle{fd: fd}, nil
}

func (d *sharedDir) Getxattr(_ context.Context, req *fuse.GetxattrRequest, resp *fuse.GetxattrResponse) error {
	return d.getxattr(0, req, resp)
}

func (d *sharedDir) Listxattr(context.Context, *fuse.ListxattrRequest, *fuse.ListxattrResponse) error {
	return nil
}

func (d *sharedDir) Setxattr(ctx context.Context, req *fuse.SetxattrRequest) error {
	return d.setxattr(ctx, req.Name, req.Xattr)
}

func (d *sharedDir) Removexattr(ctx context.Context, req *fuse.RemovexattrRequest) error {
	if strings.HasPrefix(req.Name, xattrPrefix) {
		return d.setxattr(ctx, req.Name, nil)
	}
	return noXattr(req.Name)
}

// sharedDirHandle is an opened folder; rewinding it reads it anew.
type sharedDirHandle struct {
	mu sync.Mutex
	fd int
}

func (h *sharedDirHandle) ReadDirAll(ctx context.Context) ([]fuse.Dirent, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := unix.Seek(h.fd, 0, unix.SEEK_SET); err != nil {
		return nil, local(err)
	}
	var ents []fuse.Dirent
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Getdents(h.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, local(err)
		}
		if n <= 0 {
			return ents, nil
		}
		ents = appendDirents(ents, buf[:n])
	}
}

// appendDirents reads linux_dirent64: inode 8, offset 8, length 2, type 1, name.
func appendDirents(ents []fuse.Dirent, b []byte) []fuse.Dirent {
	for len(b) >= 19 {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size < 19 || size > len(b) {
			break
		}
		name := b[19:size]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		ents = append(ents, fuse.Dirent{
			Inode: binary.NativeEndian.Uint64(b), Type: fuse.DirentType(b[18]), Name: string(name),
		})
		b = b[size:]
	}
	return ents
}

func (h *sharedDirHandle) Release(context.Context, *fuse.ReleaseRequest) error {
	return unix.Close(h.fd)
}
