package cache

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// osDisk is the real file system. It calls the kernel directly: the file type
// of package os costs a read of a chunk three more system calls.
type osDisk struct{}

func (osDisk) open(name string) (file, error) {
	return openFd(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK)
}

func (osDisk) create(name string) (file, error) {
	return openFd(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW)
}

func (osDisk) rename(from, to string) error {
	return retry(func() error { return unix.Rename(from, to) })
}

func (osDisk) remove(name string) error {
	return retry(func() error { return unix.Unlink(name) })
}

func (osDisk) mkdir(name string) error {
	return retry(func() error { return unix.Mkdir(name, 0o700) })
}

func (osDisk) free(dir string) (avail, total int64, err error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(dir, &st) }); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// fd is an open file descriptor.
type fd int

func openFd(name string, flags int) (file, error) {
	var n int
	err := retry(func() (err error) {
		n, err = unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return nil, err
	}
	return fd(n), nil
}

func (f fd) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Pread(int(f), p[done:], off+int64(done))
			return err
		})
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

func (f fd) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Write(int(f), p[done:])
			return err
		})
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.ErrShortWrite
		}
		done += n
	}
	return done, nil
}

func (f fd) stamp() (stamp, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(int(f), &st) }); err != nil {
		return stamp{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return stamp{}, syscall.ENOENT // whatever it is, it is no chunk
	}
	return stamp{st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}, nil
}

func (f fd) Sync() error  { return retry(func() error { return unix.Fsync(int(f)) }) }
func (f fd) Close() error { return unix.Close(int(f)) }

func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
