package node

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
)

// All are ours; any value works.
const (
	gatherSize  = 64 << 10               // bytes that wait for the next write
	gatherStall = 10 * time.Second       // a write of which the other end takes nothing fails, as in yamux
	gatherClose = 250 * time.Millisecond // for the rest to go out when the connection is closed
)

// gather is a connection that takes the small writes made in quick succession
// and hands them on as one. TLS writes each record of 16 KiB by itself; under
// load a system call then carries several. A lone write goes out at once.
//
// Write returns when it has taken the bytes; an error of the connection shows
// in the next Write. It waits while gatherSize bytes are waiting. An idle
// connection holds neither a buffer nor a goroutine.
type gather struct {
	net.Conn
	mu       sync.Mutex
	change   *sync.Cond  // anything below changed
	waiting  *[]byte     // the next write; nil when there is none; guarded by mu
	flushing bool        // a goroutine writes; guarded by mu
	err      error       // of the connection, or closed; guarded by mu
	deadline time.Time   // of Writes that wait; guarded by mu
	alarm    *time.Timer // wakes them then; guarded by mu
	closed   bool        // guarded by mu
	until    time.Time   // the deadline of c's writes; guarded by mu
}

func newGather(c net.Conn) *gather {
	g := &gather{Conn: newRawConn(c)}
	g.change = sync.NewCond(&g.mu)
	return g
}

var gatherBuffers = sync.Pool{New: func() any { // buffers only
	b := make([]byte, 0, gatherSize)
	return &b
}}

// Write takes p, and returns before it is sent.
func (g *gather) Write(p []byte) (n int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(p) > 0 {
		if err := g.roomLocked(); err != nil {
			return n, err
		}
		if g.waiting == nil {
			g.waiting = gatherBuffers.Get().(*[]byte)
		}
		m := min(len(p), gatherSize-len(*g.waiting))
		*g.waiting = append(*g.waiting, p[:m]...)
		n += m
		p = p[m:]
		if !g.flushing {
			g.flushing = true
			go g.flush() // Close waits for it
		}
	}
	return n, nil
}

// roomLocked waits until more may be taken.
func (g *gather) roomLocked() error {
	for {
		switch {
		case g.err != nil:
			return g.err
		case g.closed:
			return net.ErrClosed
		case !g.deadline.IsZero() && !time.Now().Before(g.deadline):
			return os.ErrDeadlineExceeded
		case g.waiting == nil || len(*g.waiting) < gatherSize:
			return nil
		}
		g.change.Wait()
	}
}

func (g *gather) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.change.Broadcast()
}

// flush writes until nothing waits. It yields before each write, so that
// whoever is just making more bytes gets them in.
func (g *gather) flush() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.err == nil && g.waiting != nil {
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
		b := g.waiting
		g.waiting = nil
		g.change.Broadcast()
		g.mu.Unlock()
		err := g.send(*b)
		*b = (*b)[:0]
		gatherBuffers.Put(b)
		g.mu.Lock()
		if err != nil && g.err == nil {
			g.err = err
		}
	}
	g.flushing = false
	g.change.Broadcast()
}

// send writes b. It fails when the other end takes nothing for gatherStall, or
// up to twice that: a slow link may take longer for all of b.
func (g *gather) send(b []byte) error {
	for {
		g.mu.Lock()
		if now := time.Now(); !g.closed && g.until.Sub(now) < gatherStall/2 { // Close has set its own
			g.until = now.Add(gatherStall)
			g.Conn.SetWriteDeadline(g.until)
		}
		closed := g.closed
		g.mu.Unlock()
		n, err := g.Conn.Write(b)
		b = b[n:]
		if len(b) == 0 || err == nil {
			return err
		}
		if n == 0 || closed || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// SetWriteDeadline bounds how long Writes wait for room.
func (g *gather) SetWriteDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deadline = t
	g.change.Broadcast()
	switch {
	case t.IsZero() || g.closed:
		if g.alarm != nil {
			g.alarm.Stop()
		}
	case g.alarm == nil:
		g.alarm = time.AfterFunc(time.Until(t), g.wake)
	default:
		g.alarm.Reset(time.Until(t))
	}
	return nil
}

// SetDeadline bounds Reads and Writes.
func (g *gather) SetDeadline(t time.Time) error {
	return errors.Join(g.Conn.SetReadDeadline(t), g.SetWriteDeadline(t))
}

// Close sends what was written, if that goes quickly, and closes the
// connection.
func (g *gather) Close() error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		if g.alarm != nil {
			g.alarm.Stop()
		}
		g.Conn.SetWriteDeadline(time.Now().Add(gatherClose))
		g.change.Broadcast()
	}
	for g.flushing {
		g.change.Wait()
	}
	g.mu.Unlock()
	return g.Conn.Close()
}
