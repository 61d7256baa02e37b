package relay

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"
)

// waiting is the circuits that hold something, ordered by since when, so that
// when the pool is full nobody looks at all of them: who keeps it full would
// have each frame cost that.
//
// Nor does a frame that passes cost anything here. A circuit enters with the
// first thing that it holds, and is left where it stood then: what it holds gets
// only younger, so it may stand too far ahead and never too far behind. Who
// wants the oldest looks at who stands first, moves him back to where he belongs
// by now or out if he holds nothing, and goes on until the first is where he
// belongs. So each look but the last is paid for by something that the circuit
// moved since the one before, and costs as much as a heap does.
//
// A far end's lock and a link's may be taken under mu, and not the other way
// round.
type waiting struct {
	mu   sync.Mutex
	heap byAge // guarded by mu
}

// spot is a circuit's in waiting.
type spot struct {
	in    atomic.Bool // true, too, when the circuit is over; changes under waiting.mu
	index int         // guarded by waiting.mu
	at    int64       // Unix nanoseconds; it holds nothing that is older; guarded by waiting.mu
}

// waits is called after the circuit got something to hold, without locks.
func (c *circuit) waits() {
	if !c.spot.in.Load() {
		c.r.waiting.enter(c)
	}
}

func (w *waiting) enter(c *circuit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.spot.in.Load() {
		return
	}
	c.spot.in.Store(true)
	c.spot.at, _ = c.oldest()
	heap.Push(&w.heap, c)
}

// leave takes a circuit out that is over, for good.
func (w *waiting) leave(c *circuit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.spot.index < len(w.heap) && w.heap[c.spot.index] == c {
		heap.Remove(&w.heap, c.spot.index)
	}
	c.spot.in.Store(true)
}

// longest gives the circuit that holds the oldest of all that waits, nil if
// none holds anything, and the stream that holds it, if one does. A circuit
// that is to end for it is taken out.
func (w *waiting) longest() (*circuit, *half) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.heap) > 0 {
		c := w.heap[0]
		at, stream := c.oldest()
		switch {
		case at == 0:
			heap.Pop(&w.heap)
			c.spot.in.Store(false)
			// What came before that was not told, as the circuit was in.
			if at, _ = c.oldest(); at != 0 {
				c.spot.in.Store(true)
				c.spot.at = at
				heap.Push(&w.heap, c)
			}
		case at != c.spot.at:
			c.spot.at = at
			heap.Fix(&w.heap, 0)
		case stream == nil:
			heap.Pop(&w.heap)
			return c, nil
		default:
			return c, stream
		}
	}
	return nil, nil
}

// relieve makes room when the pool is full: of all that wait, what holds the
// oldest frame goes. In the middle of a path that is a circuit, one that sends
// half a frame or does not read, too; at a gateway a stream; at a far end a circuit whose request
// does not come to its end, or that does not take its answer. How old, and not
// how long nothing has moved: else who holds much and moves a little of it now
// and then would see all others out.
func (r *Relay) relieve() {
	switch c, stream := r.waiting.longest(); {
	case stream != nil:
		stream.lostBothWays()
	case c != nil:
		c.end(errStalled)
	}
}

// oldest gives since when the circuit waits, in Unix nanoseconds: for a
// neighbour to take a frame or to send the rest of one, or the oldest of what it
// did not read came then, or of what waits at its far end; 0 if it holds
// nothing, or is over and that is on its way out. Stream is whose it is.
func (c *circuit) oldest() (since int64, stream *half) {
	c.mu.Lock()
	over, e, links := c.over, c.ends, c.links
	c.mu.Unlock()
	if over {
		return 0, nil
	}
	for _, w := range [...]*moving{&c.toPrev, &c.toNext, &c.fromPrev, &c.fromNext} {
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
	if e == nil {
		return since, nil
	}
	if h, at := e.longest(); at != 0 && (since == 0 || at <= since) {
		return at, h
	}
	return since, nil
}

// moving tells how a circuit's frames to one neighbour, or from one, get on. Who
// writes or reads sets it, anybody may look.
type moving struct {
	c     *circuit
	since atomic.Int64 // Unix nanoseconds at which the frame under way began; 0: none
}

func (w *moving) begin(now time.Time) {
	if w != nil {
		w.since.Store(now.UnixNano())
		w.c.waits()
	}
}

func (w *moving) end() {
	if w != nil {
		w.since.Store(0)
	}
}

// byAge is a heap of circuits.
type byAge []*circuit

func (w byAge) Len() int           { return len(w) }
func (w byAge) Less(i, j int) bool { return w[i].spot.at < w[j].spot.at }
func (w byAge) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].spot.index, w[j].spot.index = i, j
}

// Push implements heap.Interface.
func (w *byAge) Push(x any) {
	c := x.(*circuit)
	c.spot.index = len(*w)
	*w = append(*w, c)
}

// Pop implements heap.Interface.
func (w *byAge) Pop() any {
	last := len(*w) - 1
	c := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	return c
}
