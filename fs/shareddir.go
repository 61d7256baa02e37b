package fs

import (
	"context"
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
