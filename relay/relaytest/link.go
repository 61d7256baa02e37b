package relaytest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

var errReset = errors.New("link was reset")

// Link is one end of an in-memory link. It satisfies relay.Link.
type Link struct {
	self, peer wire.NodeID
	in, out    *pipe
	net        *Net
	up         *relay.Budget // of what self sends
	over       context.Context
	end        context.CancelFunc // of over
	turn       *relay.Place       // nil unless Config.Shared
}

var _ relay.Link = (*Link)(nil)

// pairLocked makes a link between two nodes.
func (n *Net) pairLocked(a, b wire.NodeID) (*Link, *Link) {
	latency := n.cfg.Latency
	if n.cfg.Spread > 0 {
		latency = time.Duration(float64(latency) * (1 + n.cfg.Spread*(2*rand.Float64()-1)))
	}
	x, y := newPipe(&n.cfg, latency), newPipe(&n.cfg, latency)
	la, lb := &Link{self: a, peer: b, in: y, out: x, net: n}, &Link{self: b, peer: a, in: x, out: y, net: n}
	for _, l := range []*Link{la, lb} {
		l.over, l.end = context.WithCancel(context.Background())
		if n.cfg.Shared {
			l.out.line = n.lineLocked(l.self, l.peer)
			l.turn = l.out.line.turns.Place()
		}
	}
	return la, lb
}

// Peer is the node at the other end.
func (l *Link) Peer() wire.NodeID { return l.peer }

// Read waits for bytes that have arrived.
func (l *Link) Read(b []byte) (int, error) { return l.in.read(b) }

// Write waits for room on the link.
func (l *Link) Write(b []byte) (int, error) {
	if err := l.up.Wait(l.over, len(b)); err != nil {
		return 0, errReset
	}
	if l.turn != nil {
		return l.turn.Write(lineWriter{l}, b)
	}
	return l.write(b)
}

func (l *Link) write(b []byte) (int, error) {
	return l.out.write(b, func(copied []byte) { l.net.saw(l.self, l.peer, copied) })
}

// End is how a link ends.
type End int

// The ways: between two frames, what was written arriving first; at once; with
// the connection that it is on.
const (
	Closed End = iota
	Reset
	Broken
)

func (n *Net) ended(from, to wire.NodeID, how End) {
	if n.cfg.Ended != nil {
		n.cfg.Ended(from, to, how)
	}
}

// say tells once that this side ended the link.
func (l *Link) say(how End) {
	if l.over.Err() == nil {
		l.net.ended(l.self, l.peer, how)
	}
	l.end()
}

// Close lets what was written arrive and ends the link. What the other side
// writes from then on goes nowhere, and it is not told of that.
func (l *Link) Close() error {
	l.say(Closed)
	l.leave()
	l.out.closeWrite()
	l.in.closeRead(io.ErrClosedPipe)
	return nil
}

// Reset ends the link at once, both ways.
func (l *Link) Reset() error {
	l.say(Reset)
	l.fail()
	return nil
}

func (l *Link) fail() {
	l.end()
	l.leave()
	l.out.fail(errReset)
	l.in.fail(errReset)
}

// SetReadDeadline is as net.Conn's.
func (l *Link) SetReadDeadline(t time.Time) error { l.in.deadline(&l.in.rdl, t); return nil }

// SetWriteDeadline is as net.Conn's.
func (l *Link) SetWriteDeadline(t time.Time) error {
	if l.turn != nil {
		l.turn.SetDeadline(t)
	}
	l.out.deadline(&l.out.wdl, t)
	return nil
}

func (l *Link) leave() {
	if l.turn != nil {
		l.turn.Close()
	}
}

func (l *Link) freeze(on bool) {
	for _, p := range []*pipe{l.in, l.out} {
		p.mu.Lock()
		p.frozen = on
		p.wake.Broadcast()
		p.mu.Unlock()
	}
}

// pipe is one direction: bytes in order, each readable from some moment on.
type pipe struct {
	cfg      *Config
	latency  time.Duration // one way
	mu       sync.Mutex
	wake     *sync.Cond // anything below changed
	segs     []seg
	size     int
	free     time.Time // when the line is free again
	ended    bool      // no more writes; EOF after the rest
	err      error     // no more of anything
	rerr     error     // the reader has gone
	frozen   bool
	rdl, wdl timeout
	line     *line // nil: one of its own
}

type seg struct {
	b    []byte
	rest []byte
	at   time.Time
}

type timeout struct {
	timer *time.Timer
	over  bool
}

var segs = sync.Pool{New: func() any { b := make([]byte, 0, wire.FrameSize); return &b }} // buffers only

func newPipe(cfg *Config, latency time.Duration) *pipe {
	p := &pipe{cfg: cfg, latency: latency}
	p.wake = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) deadline(d *timeout, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.over = !t.IsZero() && !time.Now().Before(t)
	if !t.IsZero() && !d.over {
		var timer *time.Timer
		timer = time.AfterFunc(time.Until(t), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if d.timer == timer {
				d.over = true
				p.wake.Broadcast()
			}
		})
		d.timer = timer
	}
	p.wake.Broadcast()
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.err != nil:
			return 0, p.err
		case p.rerr != nil:
			return 0, p.rerr
		case p.rdl.over:
			return 0, os.ErrDeadlineExceeded
		case p.frozen:
		case len(p.segs) > 0:
			if left := p.left(p.segs[0].at); left > 0 {
				t := time.AfterFunc(left, func() {
					p.mu.Lock()
					defer p.mu.Unlock()
					p.wake.Broadcast()
				})
				p.wake.Wait()
				t.Stop()
				continue
			}
			return p.take(b), nil
		case p.ended:
			return 0, io.EOF
		}
		p.wake.Wait()
	}
}

func (p *pipe) left(at time.Time) time.Duration {
	if at.IsZero() {
		return 0
	}
	return time.Until(at)
}

func (p *pipe) take(b []byte) int {
	s := &p.segs[0]
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	p.size -= n
	if len(s.rest) == 0 {
		buf := s.b[:0]
		segs.Put(&buf)
		copy(p.segs, p.segs[1:])
		p.segs[len(p.segs)-1] = seg{}
		p.segs = p.segs[:len(p.segs)-1]
	}
	p.wake.Broadcast()
	return n
}

func (p *pipe) write(b []byte, seen func([]byte)) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.err == nil && p.rerr == nil && !p.ended && !p.wdl.over && p.size > 0 && p.size+len(b) > p.cfg.Window {
		p.wake.Wait()
	}
	switch {
	case p.err != nil:
		return 0, p.err
	case p.ended:
		return 0, io.ErrClosedPipe
	case p.wdl.over:
		return 0, os.ErrDeadlineExceeded
	}
	c := append((*segs.Get().(*[]byte))[:0], b...)
	seen(c)
	if p.rerr != nil {
		segs.Put(&c)
		return len(b), nil
	}
	var at time.Time
	if p.line != nil {
		at = p.line.send(len(b), p.cfg)
	} else if p.cfg.Rate > 0 || p.latency > 0 {
		now := time.Now()
		if p.free.Before(now) {
			p.free = now
		}
		if p.cfg.Rate > 0 {
			p.free = p.free.Add(time.Duration(float64(len(b)) / float64(p.cfg.Rate) * float64(time.Second)))
		}
		at = p.free.Add(p.latency)
	}
	p.segs = append(p.segs, seg{b: c, rest: c, at: at})
	p.size += len(b)
	p.wake.Broadcast()
	return len(b), nil
}

func (p *pipe) closeWrite() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.stopLocked(&p.wdl)
	p.wake.Broadcast()
}

func (p *pipe) closeRead(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rerr = err
	p.segs, p.size = nil, 0
	p.stopLocked(&p.rdl)
	p.wake.Broadcast()
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.segs, p.size = nil, 0
	p.stopLocked(&p.rdl)
	p.stopLocked(&p.wdl)
	p.wake.Broadcast()
}

func (p *pipe) stopLocked(d *timeout) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
