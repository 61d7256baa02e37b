package relay

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// Conn is a stream between a reader and a session, ordered and encrypted from
// end to end; a missing or changed byte is an error, and so is an end that the
// other side did not seal. One goroutine may read while another writes.
type Conn struct {
	p      *Path
	id     uint32
	first  []byte
	joined chan [wire.WelcomeSize]byte // reader's side, until it has the answer
	tx, rx *record                     // nil until the handshake is over; tx is used under writing, rx under reading

	mu     sync.Mutex
	q      fifo  // arrived; guarded by mu
	err    error // why no more will arrive or leave; guarded by mu
	credit int   // cells that we may send; guarded by mu
	ahead  int   // cells that the other side may send; guarded by mu
	ready  bool  // the handshake is over, data may come; guarded by mu
	ended  bool  // its END has arrived; guarded by mu
	gone   bool  // removed from the path; guarded by mu

	failed   chan struct{} // closed when err is set
	readable chan struct{} // something arrived
	writable chan struct{} // credit arrived
	rdl, wdl deadline

	reading chan struct{} // token; guards what follows
	now     *frame        // what is being read
	rest    []byte        // of it
	owed    int           // cells read, whose credit was not given back yet
	window  int           // cells that the other side may send ahead at present
	rtt     time.Duration // of the handshake, end to end; 0 on a publisher's side
	since   time.Time     // the first of the owed cells was read
	eof     bool          // END was read and verified

	writing chan struct{} // token; guards what follows
	part    *frame        // a cell that is not full
	n       int           // bytes in it
	sent    time.Time     // last cell
	closed  bool          // no more writes
	late    chan struct{} // asks flush to send what is in part soon
}

func newConn(p *Path) *Conn {
	return &Conn{
		p: p, credit: wire.InitialWindow, window: wire.InitialWindow,
		failed: make(chan struct{}), readable: make(chan struct{}, 1), writable: make(chan struct{}, 1),
		rdl: newDeadline(), wdl: newDeadline(),
		reading: make(chan struct{}, 1), writing: make(chan struct{}, 1), late: make(chan struct{}, 1),
	}
}

func (c *Conn) keys(tx, rx [32]byte) {
	c.tx, c.rx = newRecord(&tx, c.p.b.Turn), newRecord(&rx, 0)
}

// begin starts the stream after its handshake.
func (c *Conn) begin() error {
	if !c.p.spawn(c.flushLate) {
		return c.p.Err()
	}
	return nil
}

// allow lets the other side send from now on.
func (c *Conn) allow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready, c.ahead = true, wire.InitialWindow
}

// RoundTrip is how long the handshake took, end to end and its work included,
// at most 2 s; 0 on a session's side.
func (c *Conn) RoundTrip() time.Duration { return c.rtt }

// First gives the bytes that came with the reader's first message; nil on the
// reader's own side.
func (c *Conn) First() []byte { return c.first }

// cell takes a cell of this stream from the path.
func (c *Conn) cell(f *frame) error {
	switch f.h.Cmd {
	case wire.CmdData, wire.CmdEnd:
		return c.arrive(f)
	}
	defer f.free()
	switch f.h.Cmd {
	case wire.CmdWindow:
		n, err := wire.ParseWindow(f.data)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.credit += n
		bad := c.credit > wire.MaxWindow
		c.mu.Unlock()
		if bad {
			return errProtocol
		}
		poke(c.writable)
		return nil
	case wire.CmdReset:
		why, err := wire.ParseReset(f.data)
		if err != nil {
			return err
		}
		if why == wire.ReasonRefused {
			c.fail(ErrRefused)
		} else {
			c.fail(ErrReset)
		}
		c.left()
		return nil
	case wire.CmdPuzzle:
		z, err := wire.ParsePuzzle(f.data)
		if err != nil {
			return err
		}
		c.mu.Lock()
		late := c.joined == nil || c.ready
		c.mu.Unlock()
		if late {
			return errProtocol
		}
		c.fail(&puzzleError{z})
		c.left()
		return nil
	case wire.CmdJoined:
		msg, err := wire.ParseOpened(f.data)
		if err != nil {
			return err
		}
		c.mu.Lock()
		again := c.ready
		c.mu.Unlock()
		if again {
			return errProtocol
		}
		select {
		case c.joined <- msg: // nil on a publisher's side, so never there
			c.allow() // data may be right behind
			return nil
		default:
		}
	}
	return errProtocol
}

func (c *Conn) arrive(f *frame) error {
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		f.free()
		return nil
	}
	if !c.ready || c.ended || (f.h.Cmd == wire.CmdData && c.ahead == 0) || c.crowdedLocked() {
		c.mu.Unlock()
		f.free()
		if c.joined != nil {
			return errProtocol
		}
		c.fail(errProtocol) // the path goes on, see broken
		c.leave()
		c.p.refuse(c.id)
		return nil
	}
	defer c.mu.Unlock()
	if f.h.Cmd == wire.CmdData {
		c.ahead--
	} else {
		c.ended = true
	}
	c.keepLocked(f)
	poke(c.readable)
	return nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fail notes why the stream is over. What arrived before can still be read.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.failed)
	}
}

func (c *Conn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// broken gives up a stream whose other side sent what does not verify. A
// reader gives his path up with it: the gateway, or whom he asked, is no good.
// A publisher's path is shared by many readers, any of whom could end it for
// all and make the publisher draw another, so that only the stream goes.
func (c *Conn) broken(err error) error {
	if c.joined != nil {
		c.p.end(err)
		return errTag
	}
	c.fail(err)
	c.leave()
	c.p.refuse(c.id)
	return errTag
}

// leave removes the stream from the path. Cells for it may be under way: DATA,
// as far as its credit went, and on a session's path as many WINDOWs as the
// reader may still give credit by. Else a reader who gives it in small pieces
// could end the path of all. Besides, no path takes a cell that nobody waits for.
func (c *Conn) leave() {
	c.mu.Lock()
	late := c.ahead + spare
	switch {
	case c.joined == nil && c.ready:
		late += wire.MaxWindow - c.credit
	case c.joined != nil && !c.ready: // the session may have answered
		late += wire.InitialWindow
	}
	c.mu.Unlock()
	c.remove(late)
}

// left removes a stream that the gateway has ended: nothing comes behind that.
func (c *Conn) left() { c.remove(0) }

func (c *Conn) remove(late int) {
	c.mu.Lock()
	gone := c.gone
	c.gone = true
	c.mu.Unlock()
	if !gone {
		c.p.remove(c.id, c, late)
	}
}

// giveCredit lets the other side send more.
func (c *Conn) giveCredit(cells int) error {
	c.mu.Lock()
	c.ahead += cells
	c.mu.Unlock()
	var b [4]byte
	return c.p.send(wire.CmdWindow, c.id, wire.AppendWindow(b[:0], cells))
}

// acquire takes a token, or ends with the deadline or the stream.
func (c *Conn) acquire(token chan struct{}, d *deadline) error {
	select {
	case token <- struct{}{}:
		return nil
	case <-d.wait():
		if err := c.why(); err != nil {
			return err
		}
		return os.ErrDeadlineExceeded
	}
}

// SetReadDeadline ends Reads that wait, then and later, with
// os.ErrDeadlineExceeded. The zero time means never.
func (c *Conn) SetReadDeadline(t time.Time) error { c.rdl.set(t); return nil }

// SetWriteDeadline does the same to Writes. Bytes that a Write counts were
// taken, and are sent when credit comes.
func (c *Conn) SetWriteDeadline(t time.Time) error { c.wdl.set(t); return nil }

// Close ends the stream. If the other side's end was read, what was written
// still arrives, and an end behind it; else the stream is reset and what is
// under way may be lost: for a clean end use CloseWrite, and read to io.EOF.
func (c *Conn) Close() error {
	c.rdl.set(time.Unix(1, 0)) // readers that wait leave
	c.reading <- struct{}{}
	eof := c.eof
	<-c.reading
	if eof {
		c.CloseWrite()
	}
	c.fail(ErrClosed) // writers that wait leave
	c.mu.Lock()
	reset := !c.gone && !eof
	for f := c.popLocked(); f != nil; f = c.popLocked() {
		f.free()
	}
	c.mu.Unlock()
	c.leave()
	c.reading <- struct{}{}
	c.rest = nil
	if c.now != nil {
		c.now.free()
		c.now = nil
	}
	c.rx = nil
	<-c.reading
	c.writing <- struct{}{}
	c.closed = true
	if c.part != nil {
		c.part.free()
		c.part, c.n = nil, 0
	}
	c.tx = nil
	<-c.writing
	if reset {
		return c.abort()
	}
	return nil
}

// abort tells the other side that the stream is gone.
func (c *Conn) abort() error {
	c.p.spoken.Store(true)
	if err := c.p.send(wire.CmdReset, c.id, []byte{byte(wire.ReasonCancelled)}); err != nil {
		return fmt.Errorf("reset stream: %w", err)
	}
	return nil
}

var errWriteClosed = fmt.Errorf("write: %w", io.ErrClosedPipe)
