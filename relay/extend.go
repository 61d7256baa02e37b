package relay

import (
	"context"
	"io"
	"time"

	"wanderfs/relay/wire"
)

// extend makes the circuit one relay longer and says so in EXTENDED. A
// refusal leaves the circuit as it was. It uses f for the answer.
func (c *circuit) extend(f *frame, e wire.Extend) (middle bool, err error) {
	l, x := c.goOn(e)
	b, _ := x.AppendBinary(f.b[wire.TagSize+wire.HeaderSize : wire.TagSize+wire.HeaderSize])
	wire.Header{Cmd: wire.CmdExtended, Len: len(b)}.Put(f.cell(wire.TagSize))
	f.pad(wire.TagSize, len(b))
	if err := c.sendCell(f); err != nil || l == nil {
		return false, err
	}
	c.next = stream{Link: l, stall: c.r.limits.Stall, pool: &c.r.pool, writes: &c.toNext}
	c.wg.Go(c.back)
	return true, nil
}

// goOn dials the next relay and carries the handshake there and back. The
// link is attached to the circuit.
func (c *circuit) goOn(e wire.Extend) (Link, wire.Extended) {
	r := c.r
	refused, failed := wire.Extended{Status: wire.StatusRefused}, wire.Extended{Status: wire.StatusFailed}
	if r.cfg.Network == nil || e.To.Node == r.id || e.To.Verify(r.cfg.NetworkName, r.cfg.Now()) != nil || !r.mayExtend(e.To.Node) {
		return nil, refused
	}
	done, ok := r.mayDial(c.nb)
	if !ok {
		return nil, refused
	}
	defer done()
	ctx, cancel := context.WithTimeout(c.ctx, r.limits.SetUp)
	defer cancel()
	l, err := r.cfg.Network.Dial(ctx, e.To)
	if err != nil {
		return nil, failed
	}
	if l.Peer() != e.To.Node || !c.attach(l) {
		l.Reset()
		return nil, failed
	}
	deadline := time.Now().Add(r.limits.SetUp)
	l.SetWriteDeadline(deadline)
	l.SetReadDeadline(deadline)
	b := wire.AppendHandshake(make([]byte, 0, wire.FrameSize), e.Msg)
	if _, err = l.Write(b); err == nil {
		_, err = io.ReadFull(l, b)
	}
	var msg [wire.HandshakeSize]byte
	if err == nil {
		msg, err = wire.ParseHandshake(b)
	}
	if err != nil {
		l.Reset()
		return nil, failed
	}
	l.SetReadDeadline(time.Time{})
	return l, wire.Extended{Msg: msg}
}
