package fs

import (
	"context"
	"errors"
	"syscall"

	"bazil.org/fuse"

	"wanderfs/cache/chunk"
)

// What a Library says with errors.Is, and what the user then sees.
var (
	ErrNoSource  = errors.New("nobody was found who has it")     // ETIMEDOUT; a later try may work
	ErrStalled   = errors.New("no progress")                     // EIO; a later read may work
	ErrNotFound  = errors.New("no such name in the folder")      // ENOENT
	ErrBadName   = errors.New("not a CID")                       // ENOENT
	ErrBadQuery  = errors.New("query cannot be asked")           // EINVAL
	ErrNotFile   = errors.New("not a file")                      // EISDIR
	ErrNotFolder = errors.New("not a folder")                    // ENOTDIR
	ErrInvalid   = errors.New("content is damaged or too large") // EIO; no later try works
	ErrFull      = errors.New("no space left")                   // ENOSPC
	ErrOffline   = errors.New("not connected to the network")    // ENETDOWN
	ErrExists    = errors.New("exists")                          // EEXIST
)

var errnos = []struct {
	err   error
	errno syscall.Errno
}{
	{ErrNoSource, syscall.ETIMEDOUT},
	{ErrStalled, syscall.EIO},
	{ErrNotFound, syscall.ENOENT},
	{ErrBadName, syscall.ENOENT},
	{ErrBadQuery, syscall.EINVAL},
	{ErrNotFile, syscall.EISDIR},
	{ErrNotFolder, syscall.ENOTDIR},
	{ErrInvalid, syscall.EIO},
	{ErrFull, syscall.ENOSPC},
	{ErrOffline, syscall.ENETDOWN},
	{ErrExists, syscall.EEXIST},
	{chunk.ErrBadName, syscall.ENOENT},
	{chunk.ErrMismatch, syscall.EIO},
	{chunk.ErrHostile, syscall.EIO},
	{chunk.ErrNotFound, syscall.ENOENT},
	{chunk.ErrNotFile, syscall.EISDIR},
	{chunk.ErrNotDir, syscall.ENOTDIR},
}

// errno is the only place where an error becomes what a program sees. ctx is
// the context of the request. EINTR is only said for a call that was
// interrupted: programs repeat a call that says EINTR, so a deadline of ours
// must never say it.
func errno(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return fuse.Errno(syscall.EINTR)
	}
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			return fuse.Errno(e.errno)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fuse.Errno(syscall.ETIMEDOUT)
	}
	var fe fuse.Errno
	if errors.As(err, &fe) {
		return fe
	}
	var se syscall.Errno
	if errors.As(err, &se) {
		return fuse.Errno(se)
	}
	return fuse.Errno(syscall.EIO)
}

const (
	eROFS    = fuse.Errno(syscall.EROFS)
	eNOENT   = fuse.Errno(syscall.ENOENT)
	eNODATA  = fuse.Errno(syscall.ENODATA)
	eNOTSUP  = fuse.Errno(syscall.ENOTSUP)
	eINVAL   = fuse.Errno(syscall.EINVAL)
	eNOTDIR  = fuse.Errno(syscall.ENOTDIR)
	eISDIR   = fuse.Errno(syscall.EISDIR)
	ePERM    = fuse.Errno(syscall.EPERM)
	eTIMEOUT = fuse.Errno(syscall.ETIMEDOUT)
)
