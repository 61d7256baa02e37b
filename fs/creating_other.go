//go:build !amd64

package fs

import "golang.org/x/sys/unix"

var makers = []maker{
	{unix.SYS_MKDIRAT, 1, -1}, {unix.SYS_MKNODAT, 1, -1},
	{unix.SYS_SYMLINKAT, 2, -1}, {unix.SYS_LINKAT, 3, -1}, {unix.SYS_OPENAT, 1, 2},
}
