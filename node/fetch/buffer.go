package fetch

import (
	"sync"
	"sync/atomic"

	"wanderfs/cache/chunk"
)

// pools recycle the memory of chunks and of ranges.
type pools struct{ large, small sync.Pool }

const smallBuffer = 256 << 10 // bytes

// buffer is memory with a count of its users. It goes back to its pool when
// the last one lets go, unless a reader was given the bytes to keep.
type buffer struct {
	b    []byte
	refs atomic.Int32
	kept atomic.Bool
	home *sync.Pool // nil: not pooled
}

// get returns a buffer of n bytes with one user.
func (p *pools) get(n int) *buffer {
	home, size := &p.large, chunk.Size
	switch {
	case n > chunk.Size:
		home, size = nil, n
	case n <= 4<<10:
		home, size = nil, n
	case n <= smallBuffer:
		home, size = &p.small, smallBuffer
	}
	var b *buffer
	if home != nil {
		b, _ = home.Get().(*buffer)
	}
	if b == nil {
		b = &buffer{b: make([]byte, size), home: home}
	}
	b.b = b.b[:n]
	b.refs.Store(1)
	return b
}

func (b *buffer) hold(n int) { b.refs.Add(int32(n)) }

// drop takes one user away.
func (b *buffer) drop() {
	if b.refs.Add(-1) == 0 && b.home != nil && !b.kept.Load() {
		b.home.Put(b)
	}
}

// recent keeps the last few chunks of a task in memory: what readers ask for
// in pieces, and what the store had no room for.
type recent struct {
	refs [8]chunk.Ref
	bufs [8]*buffer
	next int
}

// find returns the chunk with one more user, or nil.
func (c *recent) find(r chunk.Ref) *buffer {
	for i, x := range c.refs {
		if c.bufs[i] != nil && x == r {
			c.bufs[i].hold(1)
			return c.bufs[i]
		}
	}
	return nil
}

// add takes over one user of b.
func (c *recent) add(r chunk.Ref, b *buffer) {
	if old := c.bufs[c.next]; old != nil {
		old.drop()
	}
	c.refs[c.next], c.bufs[c.next] = r, b
	c.next = (c.next + 1) % len(c.bufs)
}

func (c *recent) clear() {
	for i, b := range c.bufs {
		if b != nil {
			b.drop()
		}
		c.refs[i], c.bufs[i] = chunk.Ref{}, nil
	}
}
