package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"wanderfs/relay/wire"
)

var (
	// ErrRefused says that a relay would not do what it was asked for. Another
	// relay may.
	ErrRefused = errors.New("refused")
	// ErrFailed says that a relay tried and did not succeed: a next relay that
	// it could not reach, a request that nobody could answer.
	ErrFailed = errors.New("relay could not do it")
	// ErrNoReply says that the first relay took a set-up and gave no answer to
	// it, though relays answer also when the next one fails. Build another
	// path, and count it against that relay. Of the last hop it says that
	// somebody on the path did so, most likely that one.
	ErrNoReply = errors.New("no reply to a set-up that was taken")
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
	HopTimeout  time.Duration // for a set-up, at most and no less than three quarters of it; half of it for the first hop to take the packet; 10 s, as relays' Limits.SetUp, or it shows who builds
	Turn        time.Duration // how long a path's keys are used before the next ones; 10 min, no less than relays' Limits.Turn
	Quiet       time.Duration // how long nothing may arrive while something should, at most and no less than half of it, before the far end is asked for a sign of life; 400 ms
	Dead        time.Duration // how long that sign may take, at least; longer on slow paths; 1.4 s
	KeepAlive   time.Duration // a sign of life on an idle path, at most and no less than half of it; 15 s
	Window      int           // bytes that a stream's other side may come to send ahead, if the way is fast and long; 16 MiB, at most that; a stream begins with 4 MiB
	MaxEffort   int           // bits of work that a gateway may ask for a Join, 26: seconds of one core; more is a refusal, and so is any with -1
	Now         func() time.Time

	plain emptiness // tests only, as what follows; see Config
	leaky leaks
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
	def(&c.Turn, 10*time.Minute)
	def(&c.Quiet, 400*time.Millisecond)
	def(&c.Dead, 1400*time.Millisecond)
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
		if d.Onion == nil {
			return nil, &HopError{i, wire.ErrMalformed}
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

// build sends a set-up packet to the first hop and takes the keys from the
// reply. It gives the hop that failed.
func (p *Path) build(ctx context.Context, hops []wire.Descriptor) (int, error) {
	packet, setup, err := wire.NewSetup(p.b.NetworkName, hops)
	if err != nil {
		return hopOf(err)
	}
	soon := time.Now().Add(p.b.HopTimeout / 2)
	dctx, cancel := context.WithDeadline(ctx, soon)
	defer cancel()
	l, err := p.b.Network.Dial(dctx, hops[0])
	if err != nil {
		return 0, fmt.Errorf("dial: %w", err)
	}
	p.link = stream{Link: l, stall: patience(Limits{}.WithDefaults().Stall)} // as relays: who takes nothing is to see no difference
	if l.Peer() != hops[0].Node {
		return 0, errors.New("dial: another node answered")
	}
	stop := context.AfterFunc(ctx, func() { l.Reset() })
	defer stop()
	sent := time.Now()
	b, err := deliver(l, packet, soon, time.Now().Add(patience(p.b.HopTimeout)))
	p.life.setUp = time.Since(sent) // nobody else uses it yet
	// Nobody gives up waiting for a reply before this. When it is that late,
	// somebody took the packet and never answered, and whoever before him, or
	// here, lost patience first is named or names the next: that says nothing of
	// him. It counts against the far end, whom others may have named, and not
	// against those who are pinned.
	late := p.life.setUp > p.b.HopTimeout*7/10
	if err != nil {
		if late && errors.Is(err, ErrNoReply) {
			return len(hops) - 1, err
		}
		return 0, err
	}
	keys, err := setup.Finish(b)
	if err != nil {
		i, err := hopOf(err)
		if late && errors.Is(err, ErrFailed) {
			i, err = len(hops)-1, ErrNoReply
		}
		return i, err
	}
	for _, k := range keys {
		l := newLayer(&k.Forward)
		l.empty(p.b.plain)
		p.out.hops = append(p.out.hops, l)
		p.in.hops = append(p.in.hops, newLayer(&k.Backward))
	}
	p.hash = keys[len(keys)-1].Hash
	clear(keys)
	return 0, nil
}

// hopOf reads which hop a set-up failed at, and why.
func hopOf(err error) (int, error) {
	var s *wire.SetupError
	switch {
	case !errors.As(err, &s):
		return 0, err
	case s.Status == wire.StatusRefused:
		return s.Index, fmt.Errorf("extend: %w", ErrRefused)
	case s.Status == wire.StatusFailed:
		return s.Index, fmt.Errorf("extend: %w", ErrFailed)
	}
	return s.Index, errProtocol
}
