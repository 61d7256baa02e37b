package fs

import (
	"context"
	"os"
	"strings"
	"sync"
	"time"

	"bazil.org/fuse"
	"golang.org/x/sys/unix"
)

// shared is what the nodes below shared/ have in common.
type shared struct {
	t *tree
	b *backing
	s Share

	// names guards which node has which name below which folder. It is
	// held over calls on the backing directory, so that a rename of a
	// folder above does not come between the making of a name and its use.
	names sync.RWMutex
}

func newShared(t *tree, b *backing, s Share) *sharedDir {
	return &sharedDir{sharedNode: sharedNode{fs: &shared{t: t, b: b, s: s}}, kids: make(map[string]sharedChild)}
}

// sharedChild is a *sharedDir or a *sharedFile.
type sharedChild interface {
	fusefsNode
	base() *sharedNode
}

// sharedNode is one name in the backing directory.
type sharedNode struct {
	fs       *shared
	up       *sharedDir // guarded by fs.names; nil at the top
	name     string     // guarded by fs.names
	dead     bool       // guarded by fs.names; removed or replaced
	orphan   int        // guarded by fs.names; when dead, what is left: a descriptor, or -1
	seen     time.Time  // guarded by up.mu; when it was last looked up
	ino, dev uint64
}

func (n *sharedNode) base() *sharedNode { return n }

// pathLocked returns the slash path below the backing directory, ESTALE for
// what has none any more. It wants fs.names held.
func (n *sharedNode) pathLocked() (string, error) {
	var parts []string
	size := 0
	for ; n.up != nil; n = &n.up.sharedNode {
		if n.dead {
			return "", unix.ESTALE
		}
		parts = append(parts, n.name)
		size += len(n.name) + 1
	}
	var b strings.Builder
	b.Grow(size)
	for i := len(parts) - 1; i >= 0; i-- {
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(parts[i])
	}
	return b.String(), nil
}

func (n *sharedNode) path() (string, error) {
	n.fs.names.RLock()
	defer n.fs.names.RUnlock()
	return n.pathLocked()
}

// with calls fn with the path of n; no rename comes between.
func (n *sharedNode) with(fn func(path string) error) error {
	n.fs.names.RLock()
	defer n.fs.names.RUnlock()
	path, err := n.pathLocked()
	if err != nil {
		return err
	}
	return fn(path)
}

// hold calls fn with an O_PATH descriptor of what n is, also when its name is
// gone. ESTALE says that the name now belongs to something else, changed
// behind the drive: the kernel then looks it up anew.
func (n *sharedNode) hold(fn func(fd int) error) error {
	n.fs.names.RLock()
	defer n.fs.names.RUnlock()
	if n.dead {
		if n.orphan < 0 {
			return unix.ESTALE
		}
		return fn(n.orphan)
	}
	path, err := n.pathLocked()
	if err != nil {
		return err
	}
	if path == "" {
		return fn(n.fs.b.root)
	}
	return n.fs.b.in(path, func(dir int, base string) error {
		fd, err := unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if st.Ino != n.ino || uint64(st.Dev) != n.dev {
			return unix.ESTALE
		}
		return fn(fd)
	})
}

// open opens what n is.
func (n *sharedNode) open(flags int) (fd int, err error) {
	err = n.hold(func(at int) error {
		return finish(func() error {
			fd, err = unix.Open(procPath(at), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			return err
		})
	})
	return fd, err
}

func (n *sharedNode) stat() (st unix.Stat_t, err error) {
	err = n.hold(func(fd int) error { return unix.Fstat(fd, &st) })
	return st, err
}

// killLocked takes the name from n, which may still be open, and keeps fd,
// what is left of it. It wants fs.names held for writing.
func (n *sharedNode) killLocked(fd int) {
	if n.dead {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return
	}
	n.dead, n.orphan = true, fd
}

// forget is told when the kernel knows n no more. The server tells it a
// moment after it let go of the node, and a look-up may have come between:
// what was looked up just now keeps its place.
func (n *sharedNode) forget(self sharedChild) {
	n.fs.names.Lock()
	defer n.fs.names.Unlock()
	if n.dead {
		if n.orphan >= 0 {
			_ = unix.Close(n.orphan)
		}
		n.orphan = -1
	} else if n.up != nil {
		n.up.drop(n.name, self, time.Second)
	}
}

func fillAttr(a *fuse.Attr, st *unix.Stat_t) {
	a.Valid = brief
	a.Inode, a.Size, a.Blocks = st.Ino, uint64(st.Size), uint64(st.Blocks)
	a.Atime, a.Mtime, a.Ctime = unixTime(st.Atim), unixTime(st.Mtim), unixTime(st.Ctim)
	a.Mode, a.Nlink = fileMode(st.Mode), uint32(st.Nlink)
	a.Uid, a.Gid, a.BlockSize = st.Uid, st.Gid, uint32(st.Blksize)
}

func unixTime(ts unix.Timespec) time.Time { return time.Unix(ts.Unix()) }

func fileMode(m uint32) os.FileMode {
	mode := os.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= os.ModeDir
	case unix.S_IFLNK:
		mode |= os.ModeSymlink
	case unix.S_IFIFO:
		mode |= os.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= os.ModeSocket
	case unix.S_IFCHR:
		mode |= os.ModeDevice | os.ModeCharDevice
	case unix.S_IFBLK:
		mode |= os.ModeDevice
	}
	if m&unix.S_ISUID != 0 {
		mode |= os.ModeSetuid
	}
	if m&unix.S_ISGID != 0 {
		mode |= os.ModeSetgid
	}
	if m&unix.S_ISVTX != 0 {
		mode |= os.ModeSticky
	}
	return mode
}

func unixMode(mode os.FileMode) uint32 {
	m := uint32(mode.Perm())
	if mode&os.ModeSetuid != 0 {
		m |= unix.S_ISUID
	}
	if mode&os.ModeSetgid != 0 {
		m |= unix.S_ISGID
	}
	if mode&os.ModeSticky != 0 {
		m |= unix.S_ISVTX
	}
	return m
}

// timespecs turns a request into what utimensat takes.
func timespecs(req *fuse.SetattrRequest) ([]unix.Timespec, bool) {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	one := func(i int, set, now bool, when time.Time) {
		switch {
		case now:
			ts[i].Nsec = unix.UTIME_NOW
		case set:
			ts[i] = unix.NsecToTimespec(when.UnixNano())
		}
	}
	one(0, req.Valid.Atime(), req.Valid.AtimeNow(), req.Atime)
	one(1, req.Valid.Mtime(), req.Valid.MtimeNow(), req.Mtime)
	return ts, ts[0].Nsec != unix.UTIME_OMIT || ts[1].Nsec != unix.UTIME_OMIT
}

// change applies all of a request but the size to an open descriptor, which
// may be one of O_PATH.
func change(fd int, req *fuse.SetattrRequest) error {
	if req.Valid.Uid() || req.Valid.Gid() {
		uid, gid := -1, -1
		if req.Valid.Uid() {
			uid = int(req.Uid)
		}
		if req.Valid.Gid() {
			gid = int(req.Gid)
		}
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if req.Valid.Mode() {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return unix.EOPNOTSUPP
		}
		if err := unix.Chmod(procPath(fd), unixMode(req.Mode)); err != nil {
			return err
		}
	}
	if ts, ok := timespecs(req); ok {
		return unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH)
	}
	return nil
}

// own gives a new file the mode and owner that the caller would have got.
func own(fd int, hdr *fuse.Header, mode os.FileMode) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if unix.Geteuid() == 0 && (hdr.Uid != st.Uid || hdr.Gid != st.Gid) {
		if err := unix.Fchownat(fd, "", int(hdr.Uid), int(hdr.Gid), unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK && st.Mode&0o777 != uint32(mode.Perm()) {
		return unix.Chmod(procPath(fd), unixMode(mode)|st.Mode&unix.S_ISGID)
	}
	return nil
}

// access asks the backing directory, which knows who this process is.
func (n *sharedNode) access(mask uint32) error {
	return n.hold(func(fd int) error {
		return unix.Faccessat(unix.AT_FDCWD, procPath(fd), mask, unix.AT_EACCESS)
	})
}

// sync returns when n is on disk.
func (n *sharedNode) sync(dataOnly bool) error {
	fd, err := n.open(unix.O_RDONLY)
	if err == unix.EACCES {
		fd, err = n.open(unix.O_WRONLY)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if dataOnly {
		return finish(func() error { return unix.Fdatasync(fd) })
	}
	return finish(func() error { return unix.Fsync(fd) })
}

func (n *sharedNode) getxattr(size int64, req *fuse.GetxattrRequest, resp *fuse.GetxattrResponse) error {
	if !strings.HasPrefix(req.Name, xattrPrefix) && req.Name != "ipfs.cid" {
		if strings.HasPrefix(req.Name, "user.") {
			return eNOTSUP // as for setting one
		}
		return noXattr(req.Name)
	}
	path, err := n.path()
	if err != nil || path == "" {
		return noXattr(req.Name)
	}
	s := n.fs.s.State(path)
	key := strings.TrimPrefix(req.Name, xattrPrefix)
	switch key {
	case "state":
		return answerXattr(s.Phase, s.Phase != "", req.Name, resp)
	case "error":
		return answerXattr(s.Err, s.Err != "", req.Name, resp)
	case "cached":
		return answerXattr("100", true, req.Name, resp)
	}
	if s.Ref.IsZero() && key != "size" {
		return noXattr(req.Name)
	}
	v, ok := n.fs.t.xattr(s.Ref, size, "", req.Name)
	return answerXattr(v, ok, req.Name, resp)
}

func (n *sharedNode) setxattr(ctx context.Context, name string, value []byte) error {
	on, err := pin(name, value)
	if err != nil {
		return eNOTSUP
	}
	path, err := n.path()
	if err != nil {
		return local(err)
	}
	s := n.fs.s.State(path)
	if s.Ref.IsZero() {
		return eNODATA
	}
	return local(n.fs.t.lib.Pin(s.Ref, on))
}
