package fs

import "golang.org/x/sys/unix"

var makers = []maker{
	{unix.SYS_MKDIR, 0, -1}, {unix.SYS_MKDIRAT, 1, -1},
	{unix.SYS_MKNOD, 0, -1}, {unix.SYS_MKNODAT, 1, -1},
	{unix.SYS_SYMLINK, 1, -1}, {unix.SYS_SYMLINKAT, 2, -1},
	{unix.SYS_LINK, 1, -1}, {unix.SYS_LINKAT, 3, -1},
	{unix.SYS_CREAT, 0, -1}, {unix.SYS_OPEN, 0, 1}, {unix.SYS_OPENAT, 1, 2},
}
