package relay

import (
	"container/heap"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// All are ours; any value works.
const (
	lineAhead = 8 * wire.FrameSize     // bytes handed to a connection before the first of them has left
	lineHalf  = 250 * time.Millisecond // what a circuit carried counts half after this
	lineAlone = time.Second            // a circuit that has had a connection to itself for so long may fill it
	lineWide  = 8                      // times as much ahead, then: each frame let in by itself costs a switch
	lineLend  = 5 * time.Millisecond   // a write that takes longer waits for its own stream's window
)

// Line shares a connection to a neighbour among the circuits on it. A
// multiplexer sends first what was written first, so a lone frame waits behind
// all that bulk transfers have queued. Line lets in only a few frames ahead of
// what the connection has sent, and of the circuits that wait the one that has
// carried least of late: bulk circuits get equal shares, and one that says
// little goes first. A circuit that is alone may fill the connection. The
// measure is that of Tor's circuitmux_ewma, with a shorter half-life.
//
// All methods are safe for concurrent use. No frame costs an allocation.
type Line struct {
	began time.Time
	ahead int

	mu     sync.Mutex
	out    int         // bytes handed over that have not left; guarded by mu
	bound  int         // of out; guarded by mu
	last   *Place      // who wrote last; guarded by mu
	since  time.Time   // before that it was somebody else; guarded by mu
	wait   waiters     // guarded by mu
	inside []*Place    // writing what room was taken for; guarded by mu
	timer  *time.Timer // looks for those inside who take long while others wait; guarded by mu
	armed  bool        // guarded by mu
}

// NewLine shares a connection. Ahead is how many bytes are handed to it
// before the first of them has left; 0 is 8 frames.
func NewLine(ahead int) *Line {
	if ahead <= 0 {
		ahead = lineAhead
	}
	return &Line{began: time.Now(), ahead: ahead, bound: ahead}
}

// Sent says that the connection has sent n bytes of circuits' data.
func (t *Line) Sent(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out = max(t.out-n, 0)
	t.grantLocked()
}

// boundLocked notes that c writes, and widens the bound when nobody else has
// for long.
func (t *Line) boundLocked(c *Place) {
	now := time.Now()
	if c != t.last {
		t.last, t.since, t.bound = c, now, t.ahead
	} else if t.bound == t.ahead && now.Sub(t.since) > lineAlone {
		t.bound = t.ahead * lineWide
	}
}

// Place is one circuit's place in the line of a connection. One goroutine
// writes at a time.
type Place struct {
	t       *Line
	granted chan struct{} // capacity 1
	closed  chan struct{}
	once    sync.Once
	limit   deadline

	// guarded by t.mu
	carried float64 // bytes, decayed, at the time at
	at      float64 // half-lives since t.began
	key     float64 // orders those who wait
	index   int     // in t.wait; -1 when not there
	need    int
	since   time.Time // it got room
	slow    bool      // its last write waited for its own window: it gets no room, which would keep others out
}

// Place adds a circuit to the connection.
func (t *Line) Place() *Place {
	return &Place{t: t, granted: make(chan struct{}, 1), closed: make(chan struct{}), limit: newDeadline(), index: -1}
}

// Close ends Writes that wait for their turn.
func (c *Place) Close() {
	c.once.Do(func() { close(c.closed) })
	c.limit.set(time.Time{}) // or what it waits for stays until the moment has come
}

// SetDeadline ends Writes that wait for their turn, then and later, with
// os.ErrDeadlineExceeded. The zero time means never.
func (c *Place) SetDeadline(at time.Time) { c.limit.set(at) }

// Write writes p to the circuit's stream on the connection, w, when its turn
// has come, a frame at a time.
func (c *Place) Write(w io.Writer, p []byte) (n int, err error) {
	for len(p) > 0 {
		m := min(len(p), wire.FrameSize)
		if err := c.take(m); err != nil {
			return n, err
		}
		k, err := w.Write(p[:m])
		c.release(m - k)
		n += k
		if err != nil {
			return n, err
		}
		p = p[m:]
	}
	return n, nil
}

// FrameWriter is where a circuit's frames go; as FrameLink's WriteFrame.
type FrameWriter interface{ WriteFrame(b []byte) error }

// WriteFrame writes one frame, b[LinkRoom:], to the circuit's stream on the
// connection when its turn has come.
func (c *Place) WriteFrame(w FrameWriter, b []byte) error {
	n := len(b) - LinkRoom
	if err := c.take(n); err != nil {
		return err
	}
	err := w.WriteFrame(b)
	if err == nil {
		n = 0
	}
	c.release(n)
	return err
}

// take waits for room for n bytes.
func (c *Place) take(n int) error {
	t := c.t
	t.mu.Lock()
	c.need = n
	t.boundLocked(c)
	if len(t.wait) == 0 && t.out < t.bound {
		t.enterLocked(c)
		t.mu.Unlock()
		return nil
	}
	c.key = c.keyLocked()
	heap.Push(&t.wait, c)
	t.grantLocked()
	t.mu.Unlock()
	var err error
	select {
	case <-c.granted:
		return nil
	case <-c.closed:
		err = io.ErrClosedPipe
	case <-c.limit.wait():
		err = os.ErrDeadlineExceeded
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.index < 0 { // granted just now
		<-c.granted
		t.leaveLocked(c, n)
		return err
	}
	heap.Remove(&t.wait, c.index)
	return err
}

// release ends the write that take made room for; unsent bytes of it were not
// handed over.
func (c *Place) release(unsent int) {
	t := c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaveLocked(c, unsent)
}

func (t *Line) leaveLocked(c *Place, unsent int) {
	if i := slices.Index(t.inside, c); i >= 0 {
		t.inside = slices.Delete(t.inside, i, i+1)
		t.out = max(t.out-unsent, 0)
	}
	c.slow = time.Since(c.since) >= lineLend
	t.grantLocked()
}

// grantLocked lets in who waits while there is room.
func (t *Line) grantLocked() {
	for t.out < t.bound && len(t.wait) > 0 {
		c := heap.Pop(&t.wait).(*Place)
		t.enterLocked(c)
		c.granted <- struct{}{}
	}
	if !t.armed && len(t.wait) > 0 && len(t.inside) > 0 {
		t.armed = true
		if t.timer == nil {
			t.timer = time.AfterFunc(lineLend, t.lend)
		} else {
			t.timer.Reset(lineLend)
		}
	}
}

func (t *Line) enterLocked(c *Place) {
	c.since = time.Now()
	now := c.now(c.since)
	c.carried = c.carried*math.Exp2(c.at-now) + float64(c.need)
	c.at = now
	if !c.slow {
		t.out += c.need
		t.inside = append(t.inside, c)
	}
}

// lend takes the room back from writes that wait for the window of their own
// stream: they hand nothing to the connection.
func (t *Line) lend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = false
	for i := 0; i < len(t.inside); {
		c := t.inside[i]
		if time.Since(c.since) < lineLend {
			i++
			continue
		}
		t.inside = slices.Delete(t.inside, i, i+1)
		t.out = max(t.out-c.need, 0)
	}
	t.grantLocked()
}

func (c *Place) now(at time.Time) float64 { return float64(at.Sub(c.t.began)) / float64(lineHalf) }

// keyLocked grows with what the circuit has carried of late. All decays alike,
// so the order of two keys does not change with time.
func (c *Place) keyLocked() float64 {
	if c.carried == 0 {
		return math.Inf(-1)
	}
	return math.Log2(c.carried) + c.at
}

// waiters is a heap of the circuits that wait.
type waiters []*Place

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].key < w[j].key }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].index, w[j].index = i, j
}

// Push implements heap.Interface.
func (w *waiters) Push(x any) {
	c := x.(*Place)
	c.index = len(*w)
	*w = append(*w, c)
}

// Pop implements heap.Interface.
func (w *waiters) Pop() any {
	last := len(*w) - 1
	c := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	c.index = -1
	return c
}
