//go:build !386 && !s390x

package node

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// rawConn reads and writes a TCP connection by system calls that Go's
// scheduler does not see. They never block, so it need not know: else its
// monitor thread wakes with each burst, looks every 20 microseconds whether a
// call takes long, and hands the processor to another thread while 64 KiB are
// being copied. One goroutine reads and one writes at a time.
type rawConn struct {
	net.Conn
	raw           syscall.RawConn
	read, written rawCall
}

// rawCall is a call under way. Its function is made once: a closure would be
// allocated for each.
type rawCall struct {
	f   func(fd uintptr) bool
	p   []byte
	n   int
	err syscall.Errno
}

// newRawConn gives c itself if it is not made of a file descriptor.
func newRawConn(c net.Conn) net.Conn {
	s, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return c
	}
	r := &rawConn{Conn: c, raw: raw}
	r.read.f = func(fd uintptr) bool { return r.read.call(syscall.SYS_RECVFROM, fd, syscall.MSG_DONTWAIT) }
	r.written.f = func(fd uintptr) bool {
		return r.written.call(syscall.SYS_SENDTO, fd, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	}
	return r
}

// call tells whether the call is over; if not, the socket is not ready.
func (c *rawCall) call(trap, fd, flags uintptr) bool {
	for {
		n, _, err := syscall.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(c.p))), uintptr(len(c.p)), flags, 0, 0)
		c.n, c.err = int(n), err
		if err != 0 {
			c.n = 0
		}
		if err != syscall.EINTR {
			return err != syscall.EAGAIN
		}
	}
}

// Read implements net.Conn.
func (c *rawConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r := &c.read
	r.p = p
	err := c.raw.Read(r.f)
	r.p = nil
	switch {
	case err != nil:
		return 0, err
	case r.err != 0:
		return 0, os.NewSyscallError("recv", r.err)
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

// Write implements net.Conn.
func (c *rawConn) Write(p []byte) (n int, err error) {
	w := &c.written
	for n < len(p) {
		w.p = p[n:]
		err := c.raw.Write(w.f)
		w.p = nil
		if err != nil {
			return n, err
		}
		if w.err != 0 {
			return n, os.NewSyscallError("send", w.err)
		}
		n += w.n
	}
	return n, nil
}
