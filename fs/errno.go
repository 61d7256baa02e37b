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

// Those that are known say how things are; the others may only be the
// sound of a wait that was broken off.
var errnos = []struct {
	err   error
	errno syscall.Errno
	known bool
}{
	{ErrNoSource, syscall.ETIMEDOUT, false},
	{ErrStalled, syscall.EIO, false},
	{ErrNotFound, syscall.ENOENT, true},
	{ErrBadName, syscall.ENOENT, true},
	{ErrBadQuery, syscall.EINVAL, true},
	{ErrNotFile, syscall.EISDIR, true},
	{ErrNotFolder, syscall.ENOTDIR, true},
	{ErrInvalid, syscall.EIO, true},
	{ErrFull, syscall.ENOSPC, true},
	{ErrOffline, syscall.ENETDOWN, false},
	{ErrExists, syscall.EEXIST, true},
	{chunk.ErrBadName, syscall.ENOENT, true},
	{chunk.ErrMismatch, syscall.EIO, true},
	{chunk.ErrHostile, syscall.EIO, true},
	{chunk.ErrNotFound, syscall.ENOENT, true},
	{chunk.ErrNotFile, syscall.EISDIR, true},
	{chunk.ErrNotDir, syscall.ENOTDIR, true},
}

// errno is where the error of a call that may wait for the network becomes
// what a program sees; ctx is the context of the request. EINTR is only said
// for a wait that was interrupted: programs repeat a call that says EINTR, so
// a deadline of ours must never say it, and what is known to be so stays so
// although a signal came meanwhile.
func errno(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	for _, e := range errnos {
		if errors.Is(err, e.err) && (e.known || ctx.Err() == nil) {
			return fuse.Errno(e.errno)
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fuse.Errno(syscall.EINTR)
	}
	return local(err)
}

// local is errno for what does not wait for the network, as all of shared/:
// such a call is not interrupted. The kernel tells of every signal, also of
// those that runtimes send their own threads for their own purposes, and few
// programs expect EINTR of a file system.
func local(err error) error {
	if err == nil {
		return nil
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

// finish repeats a system call of ours until no signal to this process comes
// between; some file systems tell it although the handlers restart calls.
func finish(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
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
