package relay

// What readers may make a session hold. A gateway of ours lets in 512 streams on
// a path, and each may have 4 MiB under way; a gateway that lies lets in any
// number. Who asks for content sends little, and what he sends is read at once.
// All are ours; any value works.
const (
	maxOpened   = 512  // streams at a time on a session's path
	maxArrived  = 2048 // cells that wait to be read, all streams of such a path together
	fairArrived = 4    // of them, those that each stream may have in any case
)

// crowdedLocked reports whether a cell more of this stream is too much for a
// session's path. c.mu is held.
func (c *Conn) crowdedLocked() bool {
	return c.joined == nil && c.q.n >= fairArrived && c.p.arrived.Load() >= maxArrived
}

// keepLocked queues a cell, popLocked takes one out. c.mu is held.
func (c *Conn) keepLocked(f *frame) {
	c.q.push(f)
	c.p.arrived.Add(1)
}

func (c *Conn) popLocked() *frame {
	f := c.q.pop()
	if f != nil {
		c.p.arrived.Add(-1)
	}
	return f
}
