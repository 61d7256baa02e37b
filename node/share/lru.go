package share

import (
	"container/list"
	"sync"

	"wanderfs/cache/chunk"
)

// recent keeps blocks that were verified a moment ago, so that the ranges of
// one chunk cost one read and one hash.
type recent struct {
	limit int64 // bytes

	mu    sync.Mutex
	bytes int64
	order *list.List // of held, newest first
	byRef map[heldKey]*list.Element
}

// heldKey names a block by what it hashes to and the item it was read from, so
// that a withdrawn item takes its blocks along.
type heldKey struct {
	ref   chunk.Ref
	group int
}

type held struct {
	key   heldKey
	owner int64
	gen   uint64 // of the owner
	data  []byte
}

func newRecent(limit int64) *recent {
	return &recent{limit: limit, order: list.New(), byRef: map[heldKey]*list.Element{}}
}

func (c *recent) get(k heldKey) (held, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byRef[k]
	if !ok {
		return held{}, false
	}
	c.order.MoveToFront(e)
	return e.Value.(held), true
}

func (c *recent) put(h held) {
	if int64(len(h.data)) > c.limit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(h.key)
	c.byRef[h.key] = c.order.PushFront(h)
	c.bytes += int64(len(h.data))
	for c.bytes > c.limit {
		c.dropLocked(c.order.Back().Value.(held).key)
	}
}

func (c *recent) drop(k heldKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(k)
}

func (c *recent) dropLocked(k heldKey) {
	if e, ok := c.byRef[k]; ok {
		c.bytes -= int64(len(e.Value.(held).data))
		c.order.Remove(e)
		delete(c.byRef, k)
	}
}
