package relay

import (
	"fmt"
	"io"
	"os"

	"wanderfs/relay/wire"
)

// Read reads what the other side wrote. io.EOF comes only when its sealed end
// was read; a stream or path that ends before gives another error.
func (c *Conn) Read(b []byte) (int, error) {
	if err := c.acquire(c.reading, &c.rdl); err != nil {
		return 0, err
	}
	defer func() { <-c.reading }()
	if len(b) == 0 {
		return 0, nil
	}
	for len(c.rest) == 0 {
		if c.eof {
			return 0, io.EOF
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// next waits for the next record and opens it.
func (c *Conn) next() error {
	if c.now != nil {
		c.now.free()
		c.now = nil
		c.owed++
		if step := max(64, min(c.p.b.Window/wire.FrameSize, wire.MaxWindow)/4); c.owed >= step {
			n := c.owed
			c.owed = 0
			if err := c.giveCredit(n); err != nil {
				return err
			}
		}
	}
	f, err := c.await()
	if err != nil {
		return err
	}
	if f.h.Cmd == wire.CmdEnd {
		rest, err := c.rx.open(kindEnd, f.data)
		f.free()
		if err != nil || len(rest) != 0 {
			c.p.end(fmt.Errorf("end of stream: %w", errTag))
			return errTag
		}
		c.eof = true
		return nil
	}
	c.rest, err = c.rx.open(kindData, f.data)
	if err != nil {
		f.free()
		c.rest = nil
		c.p.end(fmt.Errorf("stream: %w", err))
		return err
	}
	c.now = f
	return nil
}

// await gives the next cell that arrived.
func (c *Conn) await() (*frame, error) {
	for {
		c.mu.Lock()
		f, err := c.q.pop(), c.err
		c.mu.Unlock()
		if f != nil {
			return f, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-c.rdl.wait():
			return nil, os.ErrDeadlineExceeded
		default:
		}
		select {
		case <-c.readable:
		case <-c.failed:
		case <-c.rdl.wait():
			return nil, os.ErrDeadlineExceeded
		}
	}
}
