package relay

import (
	"container/heap"
	"crypto/ed25519"
	crand "crypto/rand"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// heldLink is a link that holds what a test says, and carries nothing.
type heldLink struct {
	peer  wire.NodeID
	room  Room
	reset func() // nil: nobody listens
	look  func() // while somebody asks what is unread; nil: nothing happens

	mu     sync.Mutex
	unread []int64
}

func (l *heldLink) Read([]byte) (int, error)         { return 0, errProtocol }
func (l *heldLink) Write([]byte) (int, error)        { return 0, errProtocol }
func (l *heldLink) Close() error                     { return nil }
func (l *heldLink) Peer() wire.NodeID                { return l.peer }
func (l *heldLink) SetReadDeadline(time.Time) error  { return nil }
func (l *heldLink) SetWriteDeadline(time.Time) error { return nil }
func (l *heldLink) ReadFrame() (*Buffer, error)      { return nil, errProtocol }
func (l *heldLink) WriteFrame([]byte) error          { return errProtocol }
func (l *heldLink) Count(r Room)                     { l.room = r }

func (l *heldLink) Reset() error {
	if l.reset != nil {
		l.reset()
	}
	return nil
}

func (l *heldLink) Unread() int64 {
	if l.look != nil {
		l.look()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unread) == 0 {
		return 0
	}
	return l.unread[0]
}

// come is a buffer that came, read one that was read.
func (l *heldLink) come() {
	l.mu.Lock()
	l.unread = append(l.unread, time.Now().UnixNano())
	l.mu.Unlock()
	l.room.Take(1)
}

func (l *heldLink) read() {
	l.mu.Lock()
	n := min(1, len(l.unread))
	l.unread = l.unread[n:]
	l.mu.Unlock()
	l.room.Give(n)
}

// crowdLimits let in as many circuits as a test wants.
var crowdLimits = Limits{Circuits: 1 << 20, PerNeighbour: 1 << 20, Creates: 1e9, Queries: 1e9, StreamsAll: 1 << 30}

// holder gives a circuit that does nothing by itself, from one of a hundred
// neighbours. Who ends it buries it.
func holder(t testing.TB, r *Relay, i int) (*circuit, *heldLink) {
	t.Helper()
	l := &heldLink{peer: wire.NodeID{byte(i % 100)}}
	c := r.admit(l)
	if c == nil {
		t.Fatal("a circuit was not let in")
	}
	r.opened(c)
	c.prev.count(c)
	return c, l
}

// bury forgets a circuit that is over.
func (c *circuit) bury() {
	c.r.dismiss(c)
	c.r.wg.Done()
}

// search finds the oldest of all that waits by looking at everything.
func (r *Relay) search() (oldest *circuit, stream *half, since int64) {
	earlier := func(at int64) bool { return at != 0 && (since == 0 || at < since) }
	for c := range r.circuits {
		if c.over {
			continue
		}
		for _, w := range []*moving{&c.toPrev, &c.toNext, &c.fromPrev, &c.fromNext} {
			if at := w.since.Load(); earlier(at) {
				oldest, stream, since = c, nil, at
			}
		}
		for _, l := range c.links {
			if at := l.(FrameLink).Unread(); earlier(at) {
				oldest, stream, since = c, nil, at
			}
		}
		if c.ends == nil {
			continue
		}
		for _, a := range c.ends.asking {
			if a.frames > 0 && earlier(a.at) {
				oldest, stream, since = c, nil, a.at
			}
		}
		for _, h := range c.ends.ready {
			if h.q.n == 0 {
				continue
			}
			if at := h.q.buf[h.q.head].at; earlier(at) {
				if oldest, stream, since = c, nil, at; h.peer != nil {
					stream = h
				}
			}
		}
	}
	return oldest, stream, since
}

// churn does one of the things that change who holds what.
type churn struct {
	r        *Relay
	rng      *rand.Rand
	circuits []*circuit
	links    map[*circuit]*heldLink
	made     int
}

func (u *churn) pick() *circuit { return u.circuits[u.rng.IntN(len(u.circuits))] }

func (u *churn) admit(t *testing.T) {
	c, l := holder(t, u.r, u.made)
	u.made++
	if u.rng.IntN(2) > 0 {
		c.far = newFarEnd(c) // which nobody empties
		c.ends = c.far
	}
	u.circuits = append(u.circuits, c)
	u.links[c] = l
}

// bury forgets the circuits that are over, and lets others in.
func (u *churn) bury(t *testing.T) {
	left := u.circuits[:0]
	for _, c := range u.circuits {
		if c.over {
			c.bury()
			delete(u.links, c)
			continue
		}
		left = append(left, c)
	}
	u.circuits = left
	for len(u.circuits) < 30 {
		u.admit(t)
	}
}

func (u *churn) step(t *testing.T) {
	c := u.pick()
	ways := [...]*moving{&c.toPrev, &c.toNext, &c.fromPrev, &c.fromNext}
	switch u.rng.IntN(16) {
	case 0: // a frame begins
		if w := ways[u.rng.IntN(4)]; w.since.Load() == 0 {
			w.begin(time.Now())
		}
	case 1, 12: // and has passed
		ways[u.rng.IntN(4)].end()
	case 2:
		u.links[c].come()
	case 3:
		u.links[c].read()
	case 13, 14, 15: // all has, but for what is at the far end
		for _, w := range ways {
			w.end()
		}
		for u.links[c].Unread() != 0 {
			u.links[c].read()
		}
	case 4, 9: // a stream, with its first cell
		o := u.pick()
		if c.far == nil || o.far == nil || o == c {
			return
		}
		a := &half{far: c.far, credit: 8, id: uint32(2*u.made + 1)}
		u.made++
		b := &half{far: o.far, credit: 8, peer: a, unsaid: true}
		a.peer = b
		if a.enter(nil) {
			b.enter(u.cell(wire.CmdOpen))
		}
	case 5, 10: // one more
		if h := u.half(c); h != nil {
			h.push(u.cell(wire.CmdData))
		}
	case 6, 11: // one leaves
		if c.far == nil {
			return
		}
		if slices.ContainsFunc(c.far.ready, func(h *half) bool { return h.q.n > 0 }) { // others may be over
			c.far.take().free()
		}
	case 7: // a piece of a request; the last one brings an answer
		if c.far == nil {
			return
		}
		f := newFrame()
		f.h.Stream = 1<<30 + 1
		f.data = make([]byte, 8000)
		if c.far.asking[f.h.Stream] == nil {
			if c.far.asks >= 4 {
				return
			}
			c.far.newest = 0
			f.data = append(wire.AppendAsk(nil, 32_000), f.data...)
		}
		if err := c.far.ask(f); err != nil {
			t.Fatal(err)
		}
		f.free()
		synctest.Wait()
	case 8:
		if u.rng.IntN(8) == 0 {
			c.end(nil)
		}
	}
}

func (u *churn) cell(cmd wire.Command) *frame {
	f := newFrame()
	f.h.Cmd = cmd
	return f
}

// half gives one of a circuit's streams.
func (u *churn) half(c *circuit) *half {
	if c.far == nil {
		return nil
	}
	var first *half
	for id, h := range c.far.streams {
		if h.credit > 0 && (first == nil || id < first.id) {
			first = h
		}
	}
	return first
}

// TestLongestWaits: whatever came, moved and ended before, what gives way when
// the pool is full is what a look at everything finds, and nothing else.
func TestLongestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLone(t)
		defer l.r.Close()
		l.r.limits, l.r.pool.limit = crowdLimits.WithDefaults(), 1<<40
		u := &churn{r: l.r, rng: rand.New(rand.NewPCG(5, 6)), links: map[*circuit]*heldLink{}}
		var circuits, streams, none int
		for i := range 100_000 {
			time.Sleep(time.Nanosecond) // nothing else is as old
			u.bury(t)
			u.step(t)
			if i%5000 > 4900 { // all goes
				u.pick().end(nil)
			}
			if u.rng.IntN(10) > 0 {
				continue
			}
			u.bury(t)
			c, h, _ := l.r.search()
			l.r.relieve()
			for _, o := range u.circuits {
				if o.over != (o == c && h == nil) {
					t.Fatalf("step %d: circuit over: %v, and the oldest is its own: %v", i, o.over, o == c)
				}
			}
			switch {
			case h != nil:
				streams++
				if !h.gone || !h.peer.gone {
					t.Fatalf("step %d: the stream with the oldest cell lives on", i)
				}
			case c != nil:
				circuits++
			default:
				none++
			}
		}
		if circuits < 1000 || streams < 500 {
			t.Errorf("%d circuits and %d streams gave way, want more to judge by", circuits, streams)
		}
		t.Logf("%d circuits and %d streams gave way, %d times nothing was held", circuits, streams, none)
		for _, c := range u.circuits {
			c.end(nil)
			c.bury()
		}
		if got := len(l.r.waiting.heap); got != 0 {
			t.Errorf("%d circuits that are over still wait", got)
		}
	})
}

// TestNobodyIsForgotten: a circuit that begins to wait while others are looked
// at is one of those who wait.
func TestNobodyIsForgotten(t *testing.T) {
	l := newLone(t)
	l.r.limits = crowdLimits.WithDefaults()
	w := &l.r.waiting
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range 2 {
		c, _ := holder(t, l.r, i)
		wg.Go(func() {
			defer func() { c.end(nil); c.bury() }()
			for range 100_000 {
				c.toNext.begin(time.Now())
				w.mu.Lock()
				in := c.spot.in.Load()
				w.mu.Unlock()
				if !in {
					t.Error("a circuit that holds something is not among those who wait")
					return
				}
				c.toNext.end()
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return
		default:
		}
		if c, _ := w.longest(); c != nil { // it was not to end
			w.mu.Lock()
			heap.Push(&w.heap, c)
			w.mu.Unlock()
		}
	}
}

// TestBeginsWhenLookedAt: a circuit that held nothing, and begins to wait
// between that look and its leaving the line, stays in it.
func TestBeginsWhenLookedAt(t *testing.T) {
	l := newLone(t)
	l.r.limits = crowdLimits.WithDefaults()
	c, link := holder(t, l.r, 1)
	defer func() { c.end(nil); c.bury() }()
	c.toNext.begin(time.Now())
	c.toNext.end()
	link.look = func() { // what is written was looked at before
		link.look = nil
		c.toNext.begin(time.Now())
	}
	if got, _ := l.r.waiting.longest(); got != c {
		t.Error("the circuit was not found")
	}
}

// TestLongestAllocates pins that making room costs no allocation by itself.
func TestLongestAllocates(t *testing.T) {
	l := newLone(t)
	l.r.limits = crowdLimits.WithDefaults()
	var cs []*circuit
	for i := range 100 {
		c, _ := holder(t, l.r, i)
		c.toNext.begin(time.Now())
		cs = append(cs, c)
	}
	i := 0
	if got := testing.AllocsPerRun(1000, func() {
		cs[i%100].toNext.begin(time.Now())
		i++
		c, _ := l.r.waiting.longest()
		c.spot.in.Store(false)
		c.waits()
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
	for _, c := range cs {
		c.end(nil)
		c.bury()
	}
}

// BenchmarkRelieve makes room at a relay with 10 000 circuits that stand still,
// where one more comes for each that goes; and where as many others move
// meanwhile.
func BenchmarkRelieve(b *testing.B) {
	for name, moving := range map[string]int{"stalled": 0, "moving": 10} {
		b.Run(name, func(b *testing.B) {
			_, key, _ := ed25519.GenerateKey(crand.Reader)
			r, err := New(Config{Identity: key, Limits: crowdLimits})
			if err != nil {
				b.Fatal(err)
			}
			cs := make([]*circuit, 10_000)
			over := -1
			stall := func(i int) {
				c, l := holder(b, r, i)
				l.reset = func() { over = i }
				c.toNext.begin(time.Now())
				cs[i] = c
			}
			for i := range cs {
				stall(i)
			}
			b.ReportAllocs()
			next := 0
			for b.Loop() {
				for range moving {
					cs[next].toNext.begin(time.Now())
					next = (next + 1) % len(cs)
				}
				r.relieve()
				cs[over].bury()
				stall(over)
			}
			for _, c := range cs {
				c.end(nil)
				c.bury()
			}
			r.Close()
		})
	}
}
