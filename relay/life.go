package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// life watches whether a path gives signs of life. A frozen relay closes
// nothing, so the far end is asked for a PONG: soon after something was sent
// and nothing came, then ever more rarely while all is quiet.
type life struct {
	mu     sync.Mutex
	quiet  time.Duration // first pause
	keep   time.Duration // longest pause
	pause  time.Duration // present one, at most
	early  float64       // of it, the part by which the next PING comes sooner, drawn for each
	last   time.Time     // anything arrived, or was sent as data
	rtt    time.Duration // slowest of late, of PINGs; 0: none was answered
	setUp  time.Duration // how long the set-up took, which is longer
	start  time.Time     // of the watch
	sent   time.Time     // when the last PING was due
	asked  time.Time     // when the PING that is out was sent; zero: none is
	moved  time.Time     // last write that ended
	burst  int           // bytes written since the last quiet second, of late
	held   time.Duration // how long the link held those writes up
	token  [8]byte
	n      uint64        // PINGs so far
	pongs  uint64        // PONGs so far
	ask    chan struct{} // to pings: send one
	change chan struct{} // to watch: look again sooner
	waits  map[[8]byte]chan struct{}
}

func (l *life) init(b *Builder) {
	l.quiet, l.keep, l.pause = b.Quiet, b.KeepAlive, b.Quiet
	l.last = time.Now()
	l.start = l.last
	l.ask = make(chan struct{}, 1)
	l.change = make(chan struct{}, 1)
	l.waits = map[[8]byte]chan struct{}{}
	l.draw()
}

// draw decides how much sooner the next PING comes. From the reply, or a PONG,
// to the PING behind it relays see twice the way to the builder and this pause:
// if it were known, so would be the way. SPEC.md §12
func (l *life) draw() { l.early = rand.Float64() / 2 }

// heard notes a frame that came in. Where all was quiet, or a PONG was awaited,
// the watch looks again sooner: somebody uses the path, be it the other side.
func (l *life) heard(cmd wire.Command) {
	l.mu.Lock()
	slow := cmd != wire.CmdPong && (l.pause > l.quiet || !l.asked.IsZero())
	l.last = time.Now()
	if cmd != wire.CmdPong {
		l.asked = time.Time{}
		l.pause = l.quiet
	}
	l.mu.Unlock()
	if slow {
		l.lookSooner()
	}
}

// lookSooner lets watch look again.
func (l *life) lookSooner() {
	select {
	case l.change <- struct{}{}:
	default:
	}
}

// wrote notes a frame that went out, and how long the link took it.
func (l *life) wrote(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.moved) > time.Second {
		l.burst, l.held = 0, 0
	}
	l.burst += wire.FrameSize
	l.held += took
	if l.burst >= 2*maxBehind {
		l.burst, l.held = l.burst/2, l.held/2
	}
	l.moved = now
}

// active says that an answer is awaited from now on.
func (l *life) active() {
	l.mu.Lock()
	slow := l.pause > l.quiet
	l.pause = l.quiet
	if slow && l.asked.IsZero() {
		l.last = time.Now()
	}
	l.mu.Unlock()
	if slow {
		l.lookSooner()
	}
}

// pong notes an answer to a PING. One that nobody asked for is an error: frames
// that mean nothing are how a far end marks a path for a relay nearer to the
// builder (Rochet and Pereira, Dropping on the Edge, 2018).
func (l *life) pong(token [8]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pongs >= l.n || binary.BigEndian.Uint64(token[:]) > l.n {
		return errProtocol
	}
	l.pongs++
	if token == l.token {
		l.rtt = max(time.Since(l.sent), l.rtt*7/8)
		if !l.asked.IsZero() {
			l.pause = min(2*l.pause, l.keep)
			l.lookSooner() // watch waits for a path to be dead
		}
	}
	l.asked = time.Time{}
	// Of PINGs that come together the far end answers the last: SPEC.md §7
	for t, c := range l.waits {
		if bytes.Compare(t[:], token[:]) <= 0 { // they count up
			delete(l.waits, t)
			close(c)
		}
	}
	return nil
}

// patience is how long a PONG may take: on a slow link the PING stands behind
// what was written before it, so as long as the link took for that, within
// reason. Time between writes tells nothing: a film is written slowly, too.
func (l *life) patience(dead time.Duration) time.Duration {
	d := max(dead, 4*l.rtt)
	if l.rtt == 0 {
		d = max(dead, 2*l.setUp)
	}
	if l.burst > 1<<20 {
		share := min(1, float64(maxBehind)/float64(l.burst))
		d = max(d, dead/2+min(10*dead, time.Duration(share*float64(l.held))))
	}
	return d
}

const maxBehind = 8 << 20 // bytes that links may hold between here and the far end; ours

// late notes that this very machine was held up, or asleep: the silence of
// that time tells nothing.
func (l *life) late() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = time.Now()
}

// spoke is when something was last sent, or was about to be.
func (l *life) spoke() time.Time {
	at := l.start
	for _, t := range []time.Time{l.moved, l.sent} {
		if t.After(at) {
			at = t
		}
	}
	return at
}

// due tells how long to wait until the next look, whether to ask now, and
// whether the path has been silent for too long.
func (l *life) due(dead time.Duration) (wait time.Duration, ask, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.asked.IsZero() {
		from := l.last
		if l.n == 0 { // the first one also measures the way
			from = l.start
		}
		due := from.Add(l.pause - time.Duration(l.early*float64(l.pause)))
		// However much comes: relays look whether anything is sent.
		if keep := l.spoke().Add(l.keep); keep.Before(due) {
			due = keep
		}
		if wait = due.Sub(now); wait > 0 {
			return wait, false, false
		}
		l.asked, l.sent = now, now
		l.draw()
		l.n++
		binary.BigEndian.PutUint64(l.token[:], l.n)
		return dead, true, false
	}
	patience := l.patience(dead)
	since := l.asked
	if l.last.After(since) {
		since = l.last
	}
	if wait = since.Add(patience).Sub(now); wait > 0 {
		return wait, false, false
	}
	return 0, false, true
}

// overdue reports whether the sign of life that was asked for takes longer than
// it should, though not as long yet that the path counts as dead.
func (l *life) overdue(dead time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked.IsZero() {
		return false
	}
	since := l.asked
	if l.last.After(since) {
		since = l.last
	}
	return time.Since(since) > l.patience(dead)*3/8
}

// watch looks for signs of life until the path ends.
func (p *Path) watch() {
	t := time.NewTimer(0)
	defer t.Stop()
	next := time.Now()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.life.change:
		case <-t.C:
			if time.Since(next) > p.b.Dead/20 {
				p.life.late()
			}
		}
		wait, ask, over := p.life.due(p.b.Dead)
		if over {
			p.end(ErrDead)
			return
		}
		if ask {
			select {
			case p.life.ask <- struct{}{}:
			default:
			}
		}
		t.Reset(wait)
		next = time.Now().Add(wait)
	}
}

// pings sends what watch asks for: writing may wait, watching must not.
func (p *Path) pings() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.life.ask:
		}
		p.life.mu.Lock()
		token := p.life.token
		p.life.mu.Unlock()
		if p.send(wire.CmdPing, 0, token[:]) != nil {
			return
		}
	}
}

// expect awaits the answer to a PING with the token that it gives; forget is
// to be called in the end.
func (l *life) expect(dead time.Duration) (answer chan struct{}, token [8]byte, patience time.Duration, forget func()) {
	c := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	binary.BigEndian.PutUint64(token[:], l.n)
	l.waits[token] = c
	return c, token, l.patience(dead), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waits, token)
	}
}

// Ping waits for a sign of life of the far end, and ends the path if none
// comes before Builder.Dead has passed (longer on slow paths) or ctx ends.
func (p *Path) Ping(ctx context.Context) error {
	c, token, patience, forget := p.life.expect(p.b.Dead)
	defer forget()
	if err := p.send(wire.CmdPing, 0, token[:]); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-c:
		return nil
	case <-p.Done():
		return p.Err()
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		p.end(ErrDead)
		return ErrDead
	}
}

// flush waits until the far end has all that streams wrote: a PONG comes when
// what was before the PING has been dealt with.
func (p *Path) flush() {
	if !p.spoken.Load() {
		return
	}
	c, token, patience, forget := p.life.expect(p.b.Dead)
	defer forget()
	if !p.spawn(func() { p.send(wire.CmdPing, 0, token[:]) }) {
		return
	}
	t := time.NewTimer(min(patience, closeWait))
	defer t.Stop()
	select {
	case <-c:
	case <-p.Done():
	case <-t.C:
	}
}
