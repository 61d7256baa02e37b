package relay

import (
	"os"
	"time"

	"wanderfs/relay/wire"
)

// linger is how long a cell that is not full waits for more bytes, if another
// has just been sent: a small tail of each Write would cost a whole frame.
const linger = time.Millisecond // ours; any value works

// Write sends b, in whole cells as far as possible; a rest is sent at once if
// nothing was just before, else after a millisecond. It waits while the other
// side does not read. Writing counts as done when the bytes were taken.
func (c *Conn) Write(b []byte) (n int, err error) {
	if err := c.acquire(c.writing, &c.wdl); err != nil {
		return 0, err
	}
	defer func() { <-c.writing }()
	for len(b) > 0 {
		if c.closed {
			return n, errWriteClosed
		}
		if c.n == wire.RecordSize {
			if err := c.flush(&c.wdl); err != nil {
				return n, err
			}
		}
		if c.part == nil {
			if err := c.why(); err != nil {
				return n, err
			}
			c.part = newFrame()
		}
		at := c.p.off() + wire.HeaderSize
		m := copy(c.part.b[at+c.n:at+wire.RecordSize], b)
		c.n += m
		n += m
		b = b[m:]
	}
	switch {
	case c.n == wire.RecordSize, c.n > 0 && time.Since(c.sent) > linger:
		err = c.flush(&c.wdl)
	case c.n > 0:
		poke(c.late)
	}
	return n, err
}

// flush sends what is in part; it needs the writing token.
func (c *Conn) flush(d *deadline) error {
	if c.part == nil {
		return nil
	}
	if err := c.spend(d); err != nil {
		return err
	}
	f, n := c.part, c.n
	c.part, c.n = nil, 0
	defer f.free()
	return c.put(f, wire.CmdData, kindData, n)
}

// put seals n bytes of f as a record and sends it.
func (c *Conn) put(f *frame, cmd wire.Command, kind byte, n int) error {
	off := c.p.off()
	at := off + wire.HeaderSize
	data, err := c.tx.seal(kind, f.b[at:at+n])
	if err != nil {
		return err
	}
	wire.Header{Cmd: cmd, Len: len(data), Stream: c.id}.Put(f.cell(off))
	f.pad(off, len(data))
	c.p.life.active()
	c.p.spoken.Store(true)
	err = c.p.sendFrame(f)
	c.sent = time.Now() // not before: it may have waited for long
	return err
}

// spend takes the credit for one cell, and waits for it.
func (c *Conn) spend(d *deadline) error {
	for {
		c.mu.Lock()
		err := c.err
		ok := c.credit > 0
		if err == nil && ok {
			c.credit--
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
		var over <-chan struct{}
		if d != nil {
			over = d.wait()
		}
		select {
		case <-c.writable:
		case <-c.failed:
		case <-over:
			return os.ErrDeadlineExceeded
		}
	}
}

// flushLate sends small rests after linger, until the stream or path ends.
func (c *Conn) flushLate() {
	t := time.NewTimer(linger)
	defer t.Stop()
	for {
		select {
		case <-c.late:
		case <-c.failed:
			return
		}
		t.Reset(linger)
		select {
		case <-t.C:
		case <-c.failed:
			return
		}
		select {
		case c.writing <- struct{}{}:
		case <-c.failed:
			return
		}
		var err error
		if c.n > 0 && time.Since(c.sent) >= linger || c.n == wire.RecordSize {
			err = c.flush(nil)
		} else if c.n > 0 {
			poke(c.late) // more was sent meanwhile; once more
		}
		<-c.writing
		if err != nil {
			return
		}
	}
}

// CloseWrite sends what is left and a sealed end: the other side reads io.EOF
// after it. Reading goes on.
func (c *Conn) CloseWrite() error {
	if err := c.acquire(c.writing, &c.wdl); err != nil {
		return err
	}
	defer func() { <-c.writing }()
	if c.closed {
		return nil
	}
	if err := c.flush(&c.wdl); err != nil {
		return err
	}
	c.closed = true
	if err := c.why(); err != nil {
		return err
	}
	f := newFrame()
	defer f.free()
	return c.put(f, wire.CmdEnd, kindEnd, 0)
}
