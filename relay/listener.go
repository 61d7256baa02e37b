package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/time/rate"

	"wanderfs/relay/wire"
)

const backlog = 256 // readers that may wait for Accept; ours

// What a session answers of one gateway's OPENs: as many as gateways of ours let
// through (Limits.Joins), which then may come together. More are refused unread:
// each answer costs as much as a set-up, and a gateway that sees a session work,
// and a relay become slow at the same time, knows whose session it is.
const (
	greetsEach  = 50  // a second
	greetsBurst = 400 // twice a gateway's
)

// Listener takes the streams that readers open to a session by way of one
// gateway.
type Listener struct {
	p     *Path
	s     *Session
	id    uint32
	queue chan *Conn
	rate  *rate.Limiter // of OPENs
	once  sync.Once
	done  chan struct{}
	said  chan error // what the gateway said to LISTEN
}

// Listen makes the last hop the gateway of a session, for readers that know
// the join secret. A path listens for one session, once.
func (p *Path) Listen(ctx context.Context, s *Session, join [32]byte) (*Listener, error) {
	l := &Listener{p: p, s: s, queue: make(chan *Conn, backlog), rate: rate.NewLimiter(greetsEach, greetsBurst), done: make(chan struct{}), said: make(chan error, 1)}
	p.mu.Lock()
	taken := p.hear != nil
	if !taken {
		p.hear = l
	}
	p.mu.Unlock()
	if taken {
		return nil, errors.New("listen: the path has a session already")
	}
	m := wire.Listen{Keys: s.keys, Verifier: wire.Verifier(join, p.last), Effort: s.effort}
	m.Sign(s.sign, p.b.NetworkName, p.last, p.hash)
	b, _ := m.AppendBinary(nil)
	p.life.active()
	err := p.open(l, &l.id, func() error { return p.send(wire.CmdListen, l.id, b) })
	if err != nil {
		return nil, err
	}
	select {
	case err = <-l.said:
	case <-ctx.Done():
		err = ctx.Err()
	case <-p.Done():
		err = p.Err()
	}
	if err != nil {
		l.Close()
		if errors.Is(err, ErrRefused) {
			p.mu.Lock()
			p.hear = nil // nothing can come; another session may be tried
			p.mu.Unlock()
		}
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// cell takes the gateway's answer to LISTEN.
func (l *Listener) cell(f *frame) error {
	defer f.free()
	switch {
	case f.h.Cmd == wire.CmdListening && len(f.data) == 0:
		l.p.remove(l.id, l, 0)
		l.said <- nil
	case f.h.Cmd == wire.CmdReset:
		if _, err := wire.ParseReset(f.data); err != nil {
			return err
		}
		l.p.remove(l.id, l, 0)
		l.said <- ErrRefused
	default:
		return errProtocol
	}
	return nil
}

func (l *Listener) fail(error) { l.once.Do(func() { close(l.done) }) }

// opened takes a reader's new stream.
func (p *Path) opened(f *frame) error {
	defer f.free()
	msg, err := wire.ParseOpen(f.data)
	if err != nil {
		return err
	}
	id := f.h.Stream
	if id == 0 || id%2 != 0 {
		return errProtocol
	}
	p.mu.Lock()
	l := p.hear
	if l == nil || id <= p.newest {
		p.mu.Unlock()
		return errProtocol
	}
	p.newest = id
	full := len(l.queue) == cap(l.queue) || len(p.streams) >= maxOpened || !l.rate.Allow() // only this goroutine fills it
	select {
	case <-l.done:
		full = true
	default:
	}
	if full {
		p.budget += spare
		p.mu.Unlock()
		p.refuse(id)
		return nil
	}
	c := newConn(p)
	c.id = id
	c.first = append([]byte(nil), msg...)
	p.streams[id] = c
	p.mu.Unlock()
	l.queue <- c
	return nil
}

// Accept waits for a reader's stream. Streams whose handshake is wrong are
// dropped unseen. It may be called by many goroutines.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	for {
		select {
		case c := <-l.queue:
			if l.greet(c) == nil {
				return c, nil
			}
			c.Close()
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.done:
			if err := l.p.Err(); err != nil {
				return nil, err
			}
			return nil, ErrClosed
		}
	}
}

// greet answers the reader's handshake.
func (l *Listener) greet(c *Conn) error {
	if err := c.why(); err != nil { // it has misbehaved already
		return err
	}
	out, first, k, err := l.s.greet(l.p.b.NetworkName, c.first)
	if err != nil {
		return err
	}
	c.first = first
	c.keys(k.ToReader, k.ToSession)
	k = wire.StreamKeys{}
	c.allow()
	l.p.spoken.Store(true)
	if err := l.p.send(wire.CmdOpened, c.id, out[:]); err != nil {
		return err
	}
	return c.begin()
}

// Done is closed when no more streams will come.
func (l *Listener) Done() <-chan struct{} { return l.done }

// Close ends accepting. Streams that were accepted go on; the gateway forgets
// the session when the path is closed.
func (l *Listener) Close() error {
	l.fail(nil)
	for {
		select {
		case c := <-l.queue:
			c.Close()
		default:
			return nil
		}
	}
}
