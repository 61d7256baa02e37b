package relaytest

import (
	"bytes"
	"sync"

	"wanderfs/relay/wire"
)

// Observer records what every relay sees on its links, if Config.Observe is
// set: who its neighbours are, the size of each write, and the first MiB of
// bytes that went from one node to another.
type Observer struct {
	mu    sync.Mutex
	sizes map[int]int
	flows map[flow]*seen
}

const keep = 1 << 20 // bytes of each flow that are kept

type flow struct{ from, to wire.NodeID }

type seen struct {
	writes int
	b      bytes.Buffer
}

// saw is called with each write, before it can be read.
func (n *Net) saw(from, to wire.NodeID, b []byte) {
	if n.cfg.Tamper != nil {
		n.cfg.Tamper(from, to, b)
	}
	if !n.cfg.Observe {
		return
	}
	o := &n.obs
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sizes == nil {
		o.sizes, o.flows = map[int]int{}, map[flow]*seen{}
	}
	o.sizes[len(b)]++
	s := o.flows[flow{from, to}]
	if s == nil {
		s = &seen{}
		o.flows[flow{from, to}] = s
	}
	s.writes++
	if s.b.Len() < keep {
		s.b.Write(b)
	}
}

// Sizes tells how often each size was written, on all links together.
func (o *Observer) Sizes() map[int]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := map[int]int{}
	for k, v := range o.sizes {
		m[k] = v
	}
	return m
}

// Writes tells how many writes went from one node to another.
func (o *Observer) Writes(from, to wire.NodeID) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.flows[flow{from, to}]; s != nil {
		return s.writes
	}
	return 0
}

// Neighbours gives the nodes that exchanged anything with a node.
func (o *Observer) Neighbours(id wire.NodeID) map[wire.NodeID]bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := map[wire.NodeID]bool{}
	for f := range o.flows {
		switch id {
		case f.from:
			m[f.to] = true
		case f.to:
			m[f.from] = true
		}
	}
	return m
}

// Contains reports whether the bytes were on any link, among those kept.
func (o *Observer) Contains(b []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.flows {
		if bytes.Contains(s.b.Bytes(), b) {
			return true
		}
	}
	return false
}
