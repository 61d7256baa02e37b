//go:build !amd64

package fs

import "golang.org/x/sys/unix"

var makers = []uint64{unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_SYMLINKAT, unix.SYS_LINKAT}

var openers = []opener{{unix.SYS_OPENAT, 2}}
