package fs

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// backing is the plain directory behind shared/. Every access starts at its
// open descriptor and follows no symlink, so that nothing outside is reached
// whatever the directory holds.
type backing struct{ root int }

func openBacking(dir string) (*backing, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open shared directory: %w", err)
	}
	return &backing{root: fd}, nil
}

func (b *backing) close() { _ = unix.Close(b.root) }

func (b *backing) space() Space {
	var st unix.Statfs_t
	if err := unix.Fstatfs(b.root, &st); err != nil {
		return Space{}
	}
	return Space{Total: st.Blocks * uint64(st.Bsize), Free: st.Bavail * uint64(st.Bsize)}
}

// dir opens the folder called name ("" is the top) as a descriptor for
// at-calls. The caller closes it.
func (b *backing) dir(name string) (int, error) {
	return b.beneath(name, unix.O_PATH|unix.O_DIRECTORY)
}

// beneath opens name in pieces that fit the kernel's limit of a path.
func (b *backing) beneath(name string, flags int) (int, error) {
	const piece = 4000
	at, owned := b.root, false
	for {
		part, rest := name, ""
		if len(name) > piece {
			i := strings.LastIndexByte(name[:piece], '/')
			if i < 0 {
				return -1, unix.ENAMETOOLONG
			}
			part, rest = name[:i], name[i+1:]
		}
		if part == "" {
			part = "."
		}
		how := &unix.OpenHow{
			Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		}
		if rest != "" {
			how.Flags = uint64(unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC)
		}
		fd, err := openat2(at, part, how)
		if owned {
			_ = unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		if rest == "" {
			return fd, nil
		}
		at, owned, name = fd, true, rest
	}
}

func openat2(at int, name string, how *unix.OpenHow) (int, error) {
	for {
		fd, err := unix.Openat2(at, name, how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// in calls fn with the folder that holds name and the last part of name.
func (b *backing) in(name string, fn func(dir int, base string) error) error {
	parent, base := "", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		parent, base = name[:i], name[i+1:]
	}
	fd, err := b.dir(parent)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fn(fd, base)
}

func (b *backing) lstat(name string) (st unix.Stat_t, err error) {
	if name == "" {
		return st, unix.Fstat(b.root, &st)
	}
	err = b.in(name, func(dir int, base string) error {
		return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return st, err
}
