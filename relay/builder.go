package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/flynn/noise"

	"wanderfs/relay/wire"
)

var (
	// ErrRefused says that a relay would not do what it was asked for. Another
	// relay may.
	ErrRefused = errors.New("refused")
	// ErrFailed says that a relay tried and did not succeed: a next relay that
	// it could not reach, a request that nobody could answer.
	ErrFailed = errors.New("relay could not do it")
	// ErrClosed says that a path, stream or listener was closed here.
	ErrClosed = errors.New("closed")
	// ErrDead says that a path gives no sign of life. Build another.
	ErrDead = errors.New("path is dead")
	// ErrReset says that the other side, or a relay between, gave a stream up.
	ErrReset = errors.New("stream was reset")
)

// HopError names the hop that a path could not be built through: the first
// that did not answer as it should, counted from 0.
type HopError struct {
	Index int
	Err   error
}

func (e *HopError) Error() string { return fmt.Sprintf("build path: hop %d: %v", e.Index, e.Err) }

// Unwrap gives the cause.
func (e *HopError) Unwrap() error { return e.Err }

// Builder makes paths. The fields must not change once it is used; a Builder
// is safe for concurrent use.
type Builder struct {
	Network     Network
	NetworkName string        // "main"
	Log         *slog.Logger  // nil is silence
	HopTimeout  time.Duration // for each hop of a set-up; 10 s
	Quiet       time.Duration // how long nothing may arrive while something should, before the far end is asked for a sign of life; 500 ms
	Dead        time.Duration // how long that sign may take, at least; longer on slow paths; 2 s
	KeepAlive   time.Duration // a sign of life on an idle path; 15 s
	Window      int           // bytes that a stream's other side may come to send ahead, if the way is fast and long; 16 MiB, at most that; a stream begins with 4 MiB
	MaxEffort   int           // bits of work that a gateway may ask for a Join, 26: seconds of one core; more is a refusal, and so is any with -1
	Now         func() time.Time
}

func (b *Builder) withDefaults() *Builder {
	c := *b
	if c.NetworkName == "" {
		c.NetworkName = "main"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	def(&c.HopTimeout, 10*time.Second)
	def(&c.Quiet, 500*time.Millisecond)
	def(&c.Dead, 2*time.Second)
	def(&c.KeepAlive, 15*time.Second)
	if c.MaxEffort == 0 {
		c.MaxEffort = 26
	}
	if c.Window == 0 {
		c.Window = wire.MaxWindow * wire.FrameSize
	}
	return &c
}

// Build makes a path through the hops, nearest first, one to wire.MaxHops. An
// error is a *HopError unless ctx ended or the hops make no path.
func (b *Builder) Build(ctx context.Context, hops []wire.Descriptor) (*Path, error) {
	b = b.withDefaults()
	if len(hops) == 0 || len(hops) > wire.MaxHops {
		return nil, fmt.Errorf("build path: %d hops", len(hops))
	}
	for i, d := range hops {
		if err := d.Verify(b.NetworkName, b.Now()); err != nil {
			return nil, &HopError{i, err}
		}
	}
	p := newPath(b, hops)
	if i, err := p.build(ctx, hops); err != nil {
		p.abandon()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("build path: %w", ctx.Err())
		}
		return nil, &HopError{i, err}
	}
	p.start()
	return p, nil
}

// build dials the first hop and extends to the others. It gives the hop that
// failed.
func (p *Path) build(ctx context.Context, hops []wire.Descriptor) (int, error) {
	dctx, cancel := context.WithTimeout(ctx, p.b.HopTimeout)
	l, err := p.b.Network.Dial(dctx, hops[0])
	cancel()
	if err != nil {
		return 0, fmt.Errorf("dial: %w", err)
	}
	p.link = stream{Link: l, stall: 10 * p.b.Dead}
	if l.Peer() != hops[0].Node {
		return 0, errors.New("dial: another node answered")
	}
	stop := context.AfterFunc(ctx, func() { l.Reset() })
	defer stop()
	for i, d := range hops {
		if err := p.addHop(i, d); err != nil {
			return i, err
		}
	}
	l.SetReadDeadline(time.Time{})
	return 0, nil
}

// addHop shakes hands with one more relay.
func (p *Path) addHop(i int, d wire.Descriptor) error {
	hs, b, err := initiate(wire.CircuitPrologue(p.b.NetworkName, d.Node), d.Onion, nil)
	if err != nil {
		return err
	}
	var deadline time.Time
	if p.b.HopTimeout > 0 {
		deadline = time.Now().Add(p.b.HopTimeout)
	}
	p.link.SetReadDeadline(deadline)
	p.link.SetWriteDeadline(deadline)
	msg := [wire.HandshakeSize]byte(b)
	if i == 0 {
		msg, err = p.create(msg)
	} else {
		msg, err = p.extend(wire.Extend{To: d, Msg: msg})
	}
	if err != nil {
		return err
	}
	return p.grow(hs, msg)
}

// create sends the first handshake as it is.
func (p *Path) create(msg [wire.HandshakeSize]byte) (out [wire.HandshakeSize]byte, err error) {
	b := wire.AppendHandshake(make([]byte, 0, wire.FrameSize), msg)
	if _, err := p.link.Write(b); err != nil {
		return out, err
	}
	if _, err := io.ReadFull(p.link.Link, b); err != nil {
		return out, err
	}
	return wire.ParseHandshake(b)
}

// extend sends a further handshake through the path as it is so far.
func (p *Path) extend(e wire.Extend) (out [wire.HandshakeSize]byte, err error) {
	b, err := e.AppendBinary(nil)
	if err != nil {
		return out, err
	}
	if err := p.send(wire.CmdExtend, 0, b); err != nil {
		return out, err
	}
	f, err := p.receive()
	if err != nil {
		return out, err
	}
	defer f.free()
	if f.h.Cmd != wire.CmdExtended {
		return out, errProtocol
	}
	x, err := wire.ParseExtended(f.data)
	switch {
	case err != nil:
		return out, err
	case x.Status == wire.StatusRefused:
		return out, fmt.Errorf("extend: %w", ErrRefused)
	case x.Status != wire.StatusOK:
		return out, fmt.Errorf("extend: %w", ErrFailed)
	}
	return x.Msg, nil
}

// grow adds the layers of the relay that answered with msg.
func (p *Path) grow(hs *noise.HandshakeState, msg [wire.HandshakeSize]byte) error {
	s, err := finish(hs, msg[:])
	if err != nil {
		return err
	}
	k := wire.DeriveCircuitKeys(s.k1, s.k2, s.hash)
	p.hash = s.hash
	p.out.hops = append(p.out.hops, newLayer(&k.Forward, &k.Filler))
	p.in.hops = append(p.in.hops, newLayer(&k.Backward, nil))
	s.erase()
	k = wire.CircuitKeys{}
	return nil
}
