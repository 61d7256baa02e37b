package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wanderfs/relay/wire"
)

// Join opens a stream to a session that listens at the path's last hop, and
// returns when the session has answered. The first bytes, at most
// wire.MaxFirst, ride in the first message: the session reads them before
// anything else, as Conn.First. They are sealed to the session's key but not
// forward secret; the session takes them once.
// ErrRefused says that nobody listens, or that join is wrong, or too many
// join; which of them is not told. While many join, the gateway asks for work,
// and Join does it: at most Builder.MaxEffort.
func (p *Path) Join(ctx context.Context, keys wire.SessionKeys, join [32]byte, first []byte) (*Conn, error) {
	if len(first) > wire.MaxFirst {
		return nil, fmt.Errorf("join: %d first bytes are too many", len(first))
	}
	for tries := 0; ; {
		c, err := p.joinOnce(ctx, keys, join, first)
		var z *puzzleError
		if !errors.As(err, &z) {
			return c, err
		}
		if tries++; tries > puzzleTries {
			return nil, fmt.Errorf("join: %w", ErrRefused)
		}
		// One solution at a time: each makes the puzzles before it worthless.
		select {
		case p.solving <- struct{}{}:
		default:
			select {
			case p.solving <- struct{}{}:
				<-p.solving
				tries--
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-p.Done():
				return nil, p.Err()
			}
		}
		err = p.pay(ctx, keys.Number(), z.Puzzle)
		<-p.solving
		if err != nil {
			return nil, fmt.Errorf("join: %w", err)
		}
	}
}

// joinOnce asks the gateway once. A *puzzleError says what it costs.
func (p *Path) joinOnce(ctx context.Context, keys wire.SessionKeys, join [32]byte, first []byte) (*Conn, error) {
	number := keys.Number()
	hs, msg, err := wire.NewGreeting(p.b.NetworkName, &keys, first)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	c := newConn(p)
	c.joined = make(chan [wire.WelcomeSize]byte, 1)
	verifier := wire.Verifier(join, p.last)
	b, err := wire.Join{Number: number, MAC: wire.JoinMAC(verifier, p.hash, number), Msg: msg}.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	p.life.active()
	start := time.Now()
	if err := p.open(c, &c.id, func() error { return p.send(wire.CmdJoin, c.id, b) }); err != nil {
		return nil, err
	}
	select {
	case answer := <-c.joined:
		c.rtt = min(time.Since(start), 2*time.Second)
		k, err := hs.Finish(&answer)
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("join: %w", err)
		}
		c.keys(k.ToSession, k.ToReader)
		k = wire.StreamKeys{}
		if err := c.begin(); err != nil {
			return nil, fmt.Errorf("join: %w", err)
		}
		return c, nil
	case <-c.failed:
		return nil, fmt.Errorf("join: %w", c.why())
	case <-ctx.Done():
		c.Close()
		return nil, ctx.Err()
	}
}
