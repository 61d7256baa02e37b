package relay

import (
	"sync/atomic"
	"time"
)

// pool bounds the frames that a relay holds for others, all circuits
// together: those that came and were not read (FrameLink), those that were
// read and not yet written, those that wait at far ends, and requests that come
// in. A node's own paths do not use it, so that a full relay does not slow its
// own sessions.
type pool struct {
	limit int64 // frames
	held  atomic.Int64
	full  func() // called, without locks, by who takes one frame too many
}

// get gives a frame that counts until it is freed. Nil is a pool without a
// bound. The caller holds no lock.
func (p *pool) get() *frame {
	f := newFrame()
	p.add(f)
	return f
}

// add counts a frame until it is freed, and makes room if that is too much.
// The caller holds no lock.
func (p *pool) add(f *frame) {
	if p.charge(f) {
		p.full()
	}
}

// charge counts a frame until it is freed, and tells whether that is too much.
func (p *pool) charge(f *frame) (full bool) {
	if p == nil {
		return false
	}
	f.of = p
	return p.take(1)
}

// take counts what is as large as n frames, and tells whether that is too
// much; give gives it back.
func (p *pool) take(n int64) (full bool) { return p.held.Add(n) > p.limit }

func (p *pool) give(n int64) { p.held.Add(-n) }

// Take implements Room.
func (p *pool) Take(buffers int) {
	if p.take(int64(buffers)) {
		p.full()
	}
}

// Give implements Room.
func (p *pool) Give(buffers int) { p.give(int64(buffers)) }

// Scarce implements Room.
func (p *pool) Scarce() bool { return p.held.Load() > p.limit/2 }

// moving tells how a circuit's frames to one neighbour, or from one, get on. Who
// writes or reads sets it, anybody may look.
type moving struct {
	since atomic.Int64 // Unix nanoseconds at which the frame under way began; 0: none
}

func (w *moving) begin(now time.Time) {
	if w != nil {
		w.since.Store(now.UnixNano())
	}
}

func (w *moving) end() {
	if w != nil {
		w.since.Store(0)
	}
}

// stalled gives when the circuit began to wait for a neighbour, to take a frame
// or to send the rest of one, or the oldest of what it did not read came; 0 if
// it does not wait and has read all.
func (c *circuit) stalled(links []Link) (since int64) {
	for _, w := range []*moving{&c.toPrev, &c.toNext, &c.fromPrev, &c.fromNext} {
		if at := w.since.Load(); at != 0 && (since == 0 || at < since) {
			since = at
		}
	}
	for _, l := range links {
		if l, ok := l.(FrameLink); ok {
			if at := l.Unread(); at != 0 && (since == 0 || at < since) {
				since = at
			}
		}
	}
	return since
}

// relieve makes room when the pool is full: of all that wait, what holds the
// oldest frame goes. In the middle of a path that is a circuit, one that sends
// half a frame or does not read, too; at a gateway a stream; at a far end a circuit whose request
// does not come to its end, or that does not take its answer. How old, and not
// how long nothing has moved: else who holds much and moves a little of it now
// and then would see all others out.
func (r *Relay) relieve() {
	r.mu.Lock()
	circuits := make([]*circuit, 0, len(r.circuits))
	for c := range r.circuits {
		circuits = append(circuits, c)
	}
	r.mu.Unlock()
	var oldest *circuit
	var stream *half
	var since int64
	for _, c := range circuits {
		c.mu.Lock()
		over, e, links := c.over, c.ends, c.links
		c.mu.Unlock()
		if over { // its frames are on their way out
			continue
		}
		if at := c.stalled(links); at != 0 && (since == 0 || at < since) {
			oldest, stream, since = c, nil, at
		}
		if e == nil {
			continue
		}
		if h, at := e.longest(); at != 0 && (since == 0 || at <= since) {
			oldest, stream, since = c, h, at
		}
	}
	switch {
	case stream != nil:
		stream.lostBothWays()
	case oldest != nil:
		oldest.end(errStalled)
	}
}
