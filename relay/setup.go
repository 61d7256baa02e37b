package relay

import (
	"context"
	"fmt"
	"io"
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
//	  |              |<-- REPLY ----|  or as failed, after Limits.SetUp
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
	if c.r.cfg.plain {
		c.fwd.fill = noFill{}
	}
	s.Keys = wire.HopKeys{}
	status := wire.StatusOK
	var l Link
	var reply []byte
	if !s.Last {
		l, reply, status = c.goOn(s)
	}
	b, err := s.Reply(status, reply)
	if err != nil {
		return false, err
	}
	c.prev.SetWriteDeadline(time.Now().Add(c.r.limits.SetUp))
	if _, err := c.prev.Write(b); err != nil || l == nil {
		return false, err
	}
	c.next = stream{Link: l, stall: c.r.limits.Stall, pool: &c.r.pool, writes: &c.toNext}
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
	b, err := deliver(l, s.Packet, soon, time.Now().Add(r.limits.SetUp))
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
