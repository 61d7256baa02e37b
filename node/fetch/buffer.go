package fetch

import (
	"slices"
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

// Sizes of recent, in chunks.
const (
	maxRecent = 24 // routes side by side bring chunks out of order, the last of them long before it is read
	maxRead   = 8  // of them, those that were read to their end
)

// recent keeps the last few chunks of a task in memory: what will be read
// soon, what readers ask for in pieces, and what the store had no room for.
// Those that were read to their end go first.
type recent struct{ kept []keptChunk } // the oldest first

type keptChunk struct {
	ref  chunk.Ref
	buf  *buffer
	read bool
}

// find returns the chunk with one more user, or nil.
func (c *recent) find(r chunk.Ref) *buffer {
	for _, k := range c.kept {
		if k.ref == r {
			k.buf.hold(1)
			return k.buf
		}
	}
	return nil
}

// add takes over one user of b.
func (c *recent) add(r chunk.Ref, b *buffer) {
	if len(c.kept) == maxRecent && !c.dropRead() {
		c.drop(0)
	}
	c.kept = append(c.kept, keptChunk{ref: r, buf: b})
}

// done says that the chunk was read to its end.
func (c *recent) done(r chunk.Ref) {
	n := 0
	for i := range c.kept {
		if c.kept[i].ref == r {
			c.kept[i].read = true
		}
		if c.kept[i].read {
			n++
		}
	}
	if n > maxRead {
		c.dropRead()
	}
}

// dropRead drops the oldest chunk that was read, if there is one.
func (c *recent) dropRead() bool {
	for i, k := range c.kept {
		if k.read {
			c.drop(i)
			return true
		}
	}
	return false
}

func (c *recent) drop(i int) {
	c.kept[i].buf.drop()
	c.kept = slices.Delete(c.kept, i, i+1)
}

func (c *recent) clear() {
	for _, k := range c.kept {
		k.buf.drop()
	}
	c.kept = nil
}
