package relay

import "sync/atomic"

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

// room is the pool to the links of one circuit.
type room struct {
	*pool
	c *circuit
}

// Take implements Room.
func (m room) Take(buffers int) {
	m.c.waits()
	m.pool.Take(buffers)
}
