package fs

import "golang.org/x/sys/unix"

var makers = []uint64{
	unix.SYS_MKDIR, unix.SYS_MKDIRAT, unix.SYS_MKNOD, unix.SYS_MKNODAT, unix.SYS_CREAT,
	unix.SYS_SYMLINK, unix.SYS_SYMLINKAT, unix.SYS_LINK, unix.SYS_LINKAT,
}

var openers = []opener{{unix.SYS_OPEN, 1}, {unix.SYS_OPENAT, 2}}
