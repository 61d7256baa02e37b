package relay

import (
	"fmt"
	"io"
	"os"
	"time"

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
		if c.owed++; c.owed == 1 {
			c.since = time.Now()
		}
		if c.owed >= max(wire.InitialWindow/2, c.window/8) { // rarely: each time costs a frame at every relay; what is owed fills no way
			if err := c.giveBack(); err != nil {
				return err
			}
		}
	}
	f, err := c.await()
	if err != nil {
		return err
	}
	if f.h.Cmd == wire.CmdEnd {
		rest, err := c.rx.open(kindEnd, nil, f.data)
		f.free()
		if err != nil || len(rest) != 0 {
			return c.broken(fmt.Errorf("end of stream: %w", errTag))
		}
		c.eof = true
		return nil
	}
	plain := newFrame()
	c.rest, err = c.rx.open(kindData, plain.b[:0], f.data)
	f.free()
	if err != nil {
		plain.free()
		c.rest = nil
		return c.broken(fmt.Errorf("stream: %w", err))
	}
	c.now = plain
	return nil
}

// await gives the next cell that arrived.
func (c *Conn) await() (*frame, error) {
	for {
		c.mu.Lock()
		f, err := c.popLocked(), c.err
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

// giveBack gives credit for what was read, and more if the stream is read so
// fast that the window, not the way, would hold it up: a slow reader must not
// pile up megabytes at the gateway.
func (c *Conn) giveBack() error {
	n := c.owed
	limit := min(c.p.b.Window/wire.FrameSize, wire.MaxWindow)
	if took := time.Since(c.since); c.window < limit && took > 0 {
		want := float64(n) * float64(2*c.rtt) / float64(took) // two round trips at this rate
		if more := int(min(want, float64(limit))) - c.window; more > 0 {
			n += more
			c.window += more
		}
	}
	c.owed = 0
	return c.giveCredit(n)
}
