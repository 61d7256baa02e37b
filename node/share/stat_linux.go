package share

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wanderfs/cache/chunk"
)

// stat is what must be equal for a file to be trusted as unchanged. Times are
// nanoseconds since 1970.
type stat struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64
}

// changed is when the file was last touched, as far as the past goes: a time
// after now (set by hand, or a clock set back) tells nothing and gives 0.
func (s stat) changed(now time.Time) time.Time {
	var last int64
	for _, t := range []int64{s.mtime, s.ctime} {
		if t > last && t <= now.UnixNano() {
			last = t
		}
	}
	if last == 0 {
		return time.Time{}
	}
	return time.Unix(0, last)
}

// sameFile reports whether s and o are one unchanged file, its name perhaps
// excepted: a rename sets ctime.
func (s stat) sameFile(o stat) bool {
	s.ctime, o.ctime = 0, 0
	return s == o
}

// fstat describes an open file.
func fstat(f *os.File) (stat, chunk.Kind, error) {
	fi, err := f.Stat()
	if err != nil {
		return stat{}, chunk.Unknown, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return stat{}, chunk.Unknown, os.ErrInvalid
	}
	return stat{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()},
		kindOf(st.Mode), nil
}

// lstatAt describes name in the open directory dir, following nothing.
func lstatAt(dir *os.File, name string) (stat, chunk.Kind, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return stat{}, chunk.Unknown, err
		}
		return stat{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()},
			kindOf(st.Mode), nil
	}
}

// readlinkAt returns the target of the symlink name in dir.
func readlinkAt(dir *os.File, name string) (string, error) {
	b := make([]byte, 4096)
	n, err := unix.Readlinkat(int(dir.Fd()), name, b)
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

func kindOf(mode uint32) chunk.Kind {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return chunk.File
	case syscall.S_IFDIR:
		return chunk.Folder
	case syscall.S_IFLNK:
		return chunk.Symlink
	}
	return chunk.Unknown // a pipe, a socket, a device: never published
}

const (
	// openFile opens without waiting for a pipe's other end and without
	// following a symlink that took the name's place.
	openFile = os.O_RDONLY | syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_NOCTTY
	openDir  = os.O_RDONLY | syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_DIRECTORY
)
