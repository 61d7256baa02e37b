package relay

import (
	"sync/atomic"
	"time"
)

// pool bounds the frames that a relay holds for others, all circuits
// together: those that were read and not yet written, those that wait at far
// ends, and requests that come in. A node's own paths do not use it, so that
// a full relay does not slow its own sessions.
type pool struct {
	limit int64 // frames
	held  atomic.Int64
	full  func() // called, without locks, by who takes one frame too many
}

// get gives a frame that counts until it is freed. Nil is a pool without a
// bound. The caller holds no lock.
func (p *pool) get() *frame {
	f := newFrame()
	if p.charge(f) {
		p.full()
	}
	return f
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

// writing tells how a circuit's writes to one neighbour get on. Who writes
// sets it, anybody may look.
type writing struct {
	since atomic.Int64 // Unix nanoseconds at which the write that waits began; 0: none
	moved atomic.Int64 // frames written
}

func (w *writing) begin(now time.Time) {
	if w != nil {
		w.since.Store(now.UnixNano())
	}
}

func (w *writing) end() {
	if w != nil {
		w.since.Store(0)
		w.moved.Add(1)
	}
}

// stalled gives when the circuit began to wait for a neighbour; 0 if it does
// not.
func (c *circuit) stalled() int64 {
	a, b := c.toPrev.since.Load(), c.toNext.since.Load()
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// relieve makes room when the pool is full: of all that wait, what has moved
// nothing for longest goes. In the middle of a path that is a circuit, at a
// gateway a stream, and a circuit whose request does not come to its end.
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
		over, e := c.over, c.ends
		c.mu.Unlock()
		if over { // its frames are on their way out
			continue
		}
		if at := c.stalled(); at != 0 && (since == 0 || at < since) {
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
