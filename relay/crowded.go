package relay

import (
	"container/heap"
	"sync"
)

// crowded is the far ends that have streams, ordered by how many, so that a
// relay that is full of them finds who has most without looking at all: who
// keeps it full would have each JOIN cost that. Nothing else is locked under mu.
type crowded struct {
	mu   sync.Mutex
	heap byStreams // guarded by mu
}

// count says that a far end has by streams more, or less.
func (w *crowded) count(e *farEnd, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	had := e.open
	e.open += by
	switch {
	case had == e.open:
	case had == 0:
		heap.Push(&w.heap, e)
	case e.open == 0:
		heap.Remove(&w.heap, e.index)
	default:
		heap.Fix(&w.heap, e.index)
	}
}

// most gives the far end that has most streams, if those are more than e would
// have with another one.
func (w *crowded) most(e *farEnd) *farEnd {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heap) == 0 || w.heap[0].open <= e.open+1 {
		return nil
	}
	return w.heap[0]
}

// mayOpen counts one stream more, for a circuit. When there are as many as there
// may be the circuit that has most gives way, unless that is this one. Nothing
// goes by neighbours: else who fills up what one of them may have, and is then
// refused by a session, or is not, learns over which its standing path comes.
func (r *Relay) mayOpen(e *farEnd) bool {
	most := int64(r.limits.StreamsAll)
	if r.streams.Add(1) <= most {
		return true
	}
	r.streams.Add(-1)
	if o := r.crowded.most(e); o != nil {
		o.shed()
	}
	if r.streams.Add(1) <= most {
		return true
	}
	r.streams.Add(-1)
	return false
}

// shed resets the stream that was opened last.
func (e *farEnd) shed() {
	e.mu.Lock()
	last := e.order.Back()
	e.mu.Unlock()
	if last != nil {
		last.Value.(*half).lostBothWays()
	}
}

// addLocked puts a half on the list of streams.
func (e *farEnd) addLocked(h *half) {
	e.streams[h.id] = h
	h.spot = e.order.PushBack(h)
	e.c.r.crowded.count(e, 1)
}

// removeLocked takes a half off the list of streams, if it is there.
func (e *farEnd) removeLocked(h *half) bool {
	if e.streams[h.id] != h {
		return false
	}
	delete(e.streams, h.id)
	e.order.Remove(h.spot)
	e.c.r.crowded.count(e, -1)
	e.c.r.streams.Add(-1)
	return true
}

// removeAllLocked empties the list of streams.
func (e *farEnd) removeAllLocked() {
	n := len(e.streams)
	clear(e.streams)
	e.order.Init()
	e.c.r.crowded.count(e, -n)
	e.c.r.streams.Add(-int64(n))
}

// byStreams is a heap of far ends, those with most streams first.
type byStreams []*farEnd

func (w byStreams) Len() int           { return len(w) }
func (w byStreams) Less(i, j int) bool { return w[i].open > w[j].open }
func (w byStreams) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].index, w[j].index = i, j
}

// Push implements heap.Interface.
func (w *byStreams) Push(x any) {
	e := x.(*farEnd)
	e.index = len(*w)
	*w = append(*w, e)
}

// Pop implements heap.Interface.
func (w *byStreams) Pop() any {
	last := len(*w) - 1
	e := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	return e
}
