package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"wanderfs/relay/wire"
)

// setUp answers the first frame, after it has gone on to the next relay if
// there is one. As all relays of a path see it:
//
//	before      this relay      next
//	  |--- SETUP --->|
//	  |<-- TAKEN ----|  opened with the onion key, not seen before
//	  |              |--- SETUP --->|
//	  |              |<-- TAKEN ----|  or it counts as dead, after half of Limits.SetUp
//	  |              |<-- REPLY ----|  or as failed, after 3/4 to all of Limits.SetUp
//	  |<-- REPLY ----|
//
// If the next relay cannot be had the reply says so, to the builder alone, and
// this relay is the far end.
func (c *circuit) setUp() (middle bool, err error) {
	s, err := c.take()
	if err != nil {
		return false, err
	}
	c.hash = s.Keys.Hash
	c.fwd, c.bwd = newLayer(&s.Keys.Forward), newLayer(&s.Keys.Backward)
	c.fwd.empty(c.r.cfg.plain)
	s.Keys = wire.HopKeys{}
	status := wire.StatusOK
	var l Link
	var reply []byte
	if !s.Last {
		stop := c.heed()
		l, reply, status = c.goOn(s)
		if err := stop(); err != nil {
			return false, err
		}
	}
	b, err := s.Reply(status, reply)
	if err != nil {
		return false, err
	}
	c.prev.SetWriteDeadline(time.Now().Add(c.r.limits.SetUp))
	if _, err := c.prev.Write(b); err != nil || l == nil {
		return false, err
	}
	c.next = stream{Link: l, stall: c.r.patience(c.r.limits.Stall), pool: &c.r.pool, reads: &c.fromNext, writes: &c.toNext}
	c.next.count(c)
	c.wg.Go(c.back)
	return true, nil
}

// take reads and opens the set-up packet, and says so.
func (c *circuit) take() (*wire.Setup, error) {
	r := c.r
	defer r.opened(c)
	c.prev.SetReadDeadline(c.hello())
	b := make([]byte, wire.FrameSize)
	if _, err := io.ReadFull(c.prev.Link, b); err != nil {
		return nil, err
	}
	var s *wire.Setup
	if err := c.compute(func() (err error) {
		s, err = r.onion.open(r.cfg.NetworkName, r.id, b)
		return err
	}); err != nil {
		return nil, err
	}
	c.prev.SetReadDeadline(time.Time{}) // from now on idle ones are moved along
	c.prev.SetWriteDeadline(time.Now().Add(r.limits.SetUp))
	_, err := c.prev.Write(wire.AppendTaken(b[:0]))
	return s, err
}

// heed ends the circuit if the one before leaves while the next relay is
// waited for, until stop is called: a builder who gives up shows so at every
// relay at once, and not at the first alone. Nothing may come before REPLY.
func (c *circuit) heed() (stop func() error) {
	gone := make(chan error, 1)
	c.wg.Go(func() {
		n, err := c.prev.Read(make([]byte, 1))
		switch {
		case n > 0:
			err = errProtocol
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = nil
		}
		if err != nil {
			c.end(err)
		}
		gone <- err
	})
	return func() error {
		c.prev.SetReadDeadline(time.Unix(1, 0))
		err := <-gone
		c.prev.SetReadDeadline(time.Time{})
		return err
	}
}

// patience is how long a reply is waited for, by relays and builders alike: if
// it were the same for all, or a builder's another, who keeps a reply back
// could tell the one before him by it, and the blame would always fall on the
// same hop. SPEC.md §6.3
func patience(most time.Duration) time.Duration {
	return most - rand.N(most/4+1)
}

// patience is how long this circuit's neighbours may be idle, or take nothing.
// It is drawn for each: when one behind or before goes silent, each relay that
// notices it is as likely to be the first to end the circuit. SPEC.md §6.5
func (r *Relay) patience(most time.Duration) time.Duration {
	if r.cfg.leaky.times || most <= 0 {
		return most
	}
	return patience(most)
}

// goOn dials the next relay, and carries the packet there and the reply back.
// The link is attached to the circuit; without it, the status says why.
func (c *circuit) goOn(s *wire.Setup) (Link, []byte, wire.Status) {
	r := c.r
	if r.cfg.Network == nil || s.Next.Node == r.id || s.Next.Verify(r.cfg.NetworkName, r.cfg.Now()) != nil || !r.mayExtend(s.Next.Node) {
		return nil, nil, wire.StatusRefused
	}
	done, ok := r.mayDial(c.nb)
	if !ok {
		return nil, nil, wire.StatusRefused
	}
	defer done()
	soon := time.Now().Add(r.limits.SetUp / 2)
	ctx, cancel := context.WithDeadline(c.ctx, soon)
	defer cancel()
	l, err := r.cfg.Network.Dial(ctx, s.Next)
	if err != nil {
		return nil, nil, wire.StatusFailed
	}
	if l.Peer() != s.Next.Node || !c.attach(l) {
		l.Reset()
		return nil, nil, wire.StatusFailed
	}
	b, err := deliver(l, s.Packet, soon, time.Now().Add(patience(r.limits.SetUp)))
	s.Packet = nil
	if err != nil {
		l.Reset()
		return nil, nil, wire.StatusFailed
	}
	return l, b, wire.StatusOK
}

// deliver sends a set-up packet, and waits until the relay has taken it and
// then for the reply. It leaves the link without deadlines.
func deliver(l Link, packet []byte, taken, reply time.Time) ([]byte, error) {
	l.SetWriteDeadline(taken)
	l.SetReadDeadline(taken)
	if _, err := l.Write(packet); err != nil {
		return nil, err
	}
	b := packet[:wire.FrameSize]
	if _, err := io.ReadFull(l, b); err != nil {
		return nil, err
	}
	if err := wire.ParseTaken(b); err != nil {
		return nil, err
	}
	l.SetReadDeadline(reply)
	if _, err := io.ReadFull(l, b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoReply, err)
	}
	if b[0] != wire.Version {
		return nil, wire.ErrMalformed
	}
	l.SetReadDeadline(time.Time{})
	l.SetWriteDeadline(time.Time{})
	return b, nil
}
