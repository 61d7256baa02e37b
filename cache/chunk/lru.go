package chunk

import (
	"container/list"
	"sync"
)

// lru keeps the decoded nodes that were used last, up to a cost in bytes. Its
// zero value is ready; it is safe for concurrent use.
type lru[V interface{ cost() int }] struct {
	mu    sync.Mutex
	order list.List // of cached[V], last used in front; guarded by mu
	items map[Ref]*list.Element
	used  int
}

type cached[V any] struct {
	ref Ref
	val V
}

func (c *lru[V]) get(r Ref) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[r]
	if !ok {
		var none V
		return none, false
	}
	c.order.MoveToFront(e)
	return e.Value.(cached[V]).val, true
}

func (c *lru[V]) put(r Ref, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[r]; ok {
		return
	}
	if c.items == nil {
		c.items = make(map[Ref]*list.Element)
	}
	c.items[r] = c.order.PushFront(cached[V]{r, v})
	c.used += v.cost()
	for c.used > nodeCache && c.order.Len() > 1 {
		last := c.order.Back()
		it := c.order.Remove(last).(cached[V])
		delete(c.items, it.ref)
		c.used -= it.val.cost()
	}
}
