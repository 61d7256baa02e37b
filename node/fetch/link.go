package fetch

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

type linkState uint8

const (
	dialing linkState = iota
	live
	dead
)

const (
	minWindow    = 4 << 20  // bytes; a new route begins with it
	startup      = 12 << 20 // bytes; until then a route's window grows faster, as long as its rate does
	trickle      = 8 << 10  // bytes; less than this in the time of Config.Frozen is silence
	assumedSpeed = 4 << 20  // bytes/s of a route that nothing is known of
)

// link is one connection to a session over one route. Requests are answered in
// order, so queue is a FIFO.
type link struct {
	t       *Task
	cand    *candidate
	session wire.SessionNumber
	ctx     context.Context
	cancel  context.CancelFunc // closes the connection
	notify  chan struct{}      // capacity 1: pending has bytes
	since   atomic.Int64       // unix nanoseconds of the last real progress
	got     atomic.Int64       // bytes read, headers too

	// guarded by Task.mu
	state    linkState
	queue    []*req
	next     uint32 // tag
	out      int64  // bytes expected for queue
	pending  []byte // requests not yet written
	rate     float64
	pace     pace // see there
	rtt      time.Duration
	grown    float64   // rate when it last grew much
	grownAt  time.Time // when that was
	taken    int64     // bytes of whole answers so far
	gotThen  int64     // got when the last answer was whole
	takenAt  time.Time
	dialAt   time.Time
	liveAt   time.Time
	proven   bool      // has given a verified chunk
	leaving  bool      // it ends soon: another one takes over
	goodbye  bool      // its session said so
	retired  bool      // the reader's own session does
	first    bool      // it makes place for the other one
	suspect  bool      // it may have failed: what readers wait for is asked for elsewhere, too
	crawling bool      // as crawls last said
	winAt    time.Time // when crawls last looked; zero: not lately
	winGot   int64     // got then
	peak     float64   // bytes/s, the best of late
	silent   bool      // nothing came for long; another route is opened beside it
	bypassed bool      // silent: nothing more is asked of it for now
	gaveUp   bool      // closed because of that
	noWay    bool      // its dial ended with ErrNoWay
	refusals int       // in a row: it has too much to do
	rest     time.Time // nothing is asked of it before
}

// usable reports whether f may be asked for here.
func (l *link) usable(f *fetch) bool {
	return l.state == live && !l.bypassed && !f.absent[l.session] && !(l.leaving && l.t.succeededLocked(l, f)) &&
		(l.rest.IsZero() || !time.Now().Before(l.rest))
}

// speed returns bytes per second, an assumption at first.
func (l *link) speed() float64 {
	if l.rate > 0 {
		return max(l.rate, 1024)
	}
	var sum float64
	n := 0
	for _, o := range l.t.links {
		switch {
		case o.rate <= 0:
			continue
		case o.rate < o.grown/crawl: // it fails; that says nothing of another one
			sum += o.grown
		default:
			sum += o.rate
		}
		n++
	}
	switch {
	case n > 0:
		return max(sum/float64(n), 1024)
	case l.t.paceKnown():
		return l.t.pace
	}
	return assumedSpeed
}

// eta returns when size more bytes would be here.
func (l *link) eta(size int64) time.Duration {
	return l.rtt + time.Duration(float64(l.out+size)/l.speed()*float64(time.Second))
}

// window returns how many bytes may be asked for at once: a multiple of what is
// on the way at the rate seen, so that a faster route shows, within limits.
func (l *link) window() int64 {
	if l.t.slow {
		speed := min(l.speed(), 2*l.t.pace) // a burst is no rate
		w := int64(1.3*speed*l.rtt.Seconds()) + 2*int64(pieceFor(l.t.pace))
		return min(max(w, int64(speed/4)), l.t.f.cfg.Window)
	}
	low := int64(minWindow)
	if l.rate > 0 {
		low = min(low, max(512<<10, int64(2*l.rate)))
	} else if l.t.done > 0 { // the first chunk shows what it can do
		low = chunk.Size
	}
	gain := 1.3
	if l.taken < startup && time.Since(l.grownAt) < 2*l.rtt+tick {
		gain = 3
	}
	w := int64(gain*l.rate*l.rtt.Seconds()) + chunk.Size
	return min(max(w, low), l.t.f.cfg.Window)
}

// left returns when the answer to q will be here.
func (l *link) left(q *req) time.Duration {
	n := -(l.got.Load() - l.gotThen)
	for _, o := range l.queue {
		n += o.size
		if o == q {
			break
		}
	}
	return time.Duration(float64(max(n, 0)) / l.speed() * float64(time.Second))
}

// slowdown lowers the rate when the answer that is due takes much longer than
// the rate says, without waiting for its end.
func (l *link) slowdown(now time.Time) {
	q := l.queue[0]
	begin := later(q.sent, l.takenAt)
	took := now.Sub(begin)
	if took < 2*(l.trip()+time.Duration(float64(q.size)/l.speed()*float64(time.Second))) {
		return
	}
	n := l.got.Load() - l.gotThen
	l.rate = max(1, float64(n)/took.Seconds())
}

// trip returns the round trip, an assumption at first.
func (l *link) trip() time.Duration {
	if l.rtt == 0 {
		return time.Second
	}
	return l.rtt
}

// late returns after which time without the answer another may be asked.
func (l *link) late(q *req) time.Duration {
	return max(500*time.Millisecond, 2*(l.eta(q.size)-l.rtt+l.trip()))
}

// send asks for p here. Task.mu is held; flush writes.
func (l *link) send(f *fetch, p *part) *req {
	if f.demand > 0 && (len(p.reqs) == 0 || !l.t.slow) { // a slow task has little before a copy
		l.makeWay()
	}
	now := time.Now()
	q := &req{f: f, p: p, l: l, tag: l.next, size: f.size(p), sent: now, before: l.taken, beforeAt: now}
	if len(l.queue) > 0 && !l.takenAt.IsZero() {
		q.beforeAt = l.takenAt
	}
	q.due = now.Add(l.late(q))
	l.next++
	l.queue = append(l.queue, q)
	l.out += q.size
	p.reqs = append(p.reqs, q)
	l.pending = appendRequest(l.pending, q.wire(kindGet))
	return q
}

func (l *link) flush() {
	select {
	case l.notify <- struct{}{}:
	default:
	}
}

// run dials by route and then reads answers until the connection ends.
func (l *link) run(route Route, first []byte) {
	defer l.cancel()
	conn, err := route.Dial(context.WithValue(l.ctx, taskKey{}, l.t), first)
	if err != nil {
		l.t.mu.Lock()
		l.cand.drained = errors.Is(err, ErrRebuilds)
		l.noWay = errors.Is(err, ErrNoWay)
		l.t.find.noWay = l.noWay
		l.t.mu.Unlock()
		l.t.linkEnded(l, false)
		return
	}
	stop := context.AfterFunc(l.ctx, func() { l.close(conn) })
	defer stop()
	l.t.mu.Lock()
	if l.state == dead {
		l.t.mu.Unlock()
		conn.Close()
		return
	}
	l.state = live
	if c, ok := conn.(Measured); ok {
		l.rtt = c.RoundTrip()
	}
	now := time.Now()
	l.liveAt = now
	l.t.dialTook = max(l.t.dialTook, now.Sub(l.dialAt))
	l.since.Store(now.UnixNano())
	l.t.find.reached, l.t.find.noWay = true, false
	for _, q := range l.queue {
		q.sent, q.beforeAt = now, now
		q.due = now.Add(l.late(q))
	}
	l.t.copyLocked(now) // before what is wanted ahead
	l.t.assignLocked()
	l.t.mu.Unlock()
	l.t.kick()

	var wg sync.WaitGroup
	if r, ok := conn.(Retiring); ok {
		wg.Go(func() { l.awaitRetirement(r) })
	}
	wg.Go(func() {
		if l.write(conn) != nil {
			l.cancel()
		}
	})
	err = l.read(conn)
	l.t.linkEnded(l, err == ErrProtocol)
	l.cancel()
	conn.Close()
	wg.Wait()
}

// Measured is a connection that knows its round trip from the beginning.
type Measured interface {
	RoundTrip() time.Duration // 0: not yet
}

// Fallible is a connection that wants to know, before it is closed, that it was
// given up because too little came.
type Fallible interface {
	GivenUp()
}

func (l *link) close(conn io.Closer) {
	l.t.mu.Lock()
	gaveUp := l.gaveUp
	l.t.mu.Unlock()
	if c, ok := conn.(Fallible); ok && gaveUp {
		c.GivenUp()
	}
	conn.Close()
}

// write sends what is pending, all of it in one write.
func (l *link) write(conn io.Writer) error {
	var spare []byte
	for {
		l.t.mu.Lock()
		b := l.pending
		l.pending = spare[:0]
		l.t.mu.Unlock()
		if len(b) > 0 {
			if _, err := conn.Write(b); err != nil {
				return err
			}
			spare = b
			continue
		}
		spare = b
		select {
		case <-l.notify:
		case <-l.ctx.Done():
			return l.ctx.Err()
		}
	}
}

// read takes answers in. It returns ErrProtocol if the session misbehaves.
func (l *link) read(conn io.Reader) error {
	// A buffer for headers and small ranges; a block's bytes go from the
	// connection to where they stay.
	in := bufio.NewReaderSize(&progressReader{r: conn, since: &l.since, got: &l.got, all: &l.t.got}, 64<<10)
	var h [AnswerSize]byte
	for {
		if _, err := io.ReadFull(in, h[:]); err != nil {
			return err
		}
		a, err := parseAnswer(h[:])
		if err != nil {
			return err
		}
		if a.Status == statusLeaving {
			if err := l.told(); err != nil {
				return err
			}
			continue
		}
		q, err := l.begin(a)
		if err != nil {
			return err
		}
		var buf *buffer
		if a.Status == statusData {
			buf = l.t.f.pool.get(int(a.Length))
			if _, err := io.ReadFull(in, buf.b); err != nil {
				buf.drop()
				return err
			}
		}
		if f := l.end(q, a, buf); f != nil {
			l.t.check(f)
		}
	}
}

// begin finds the request that a answers and holds a against it.
func (l *link) begin(a answer) (*req, error) {
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	if l.state == dead {
		return nil, io.ErrClosedPipe
	}
	if len(l.queue) == 0 || l.queue[0].tag != a.Tag {
		return nil, ErrProtocol
	}
	q := l.queue[0]
	if a.Status == statusCancelled && !q.cancelled {
		return nil, ErrProtocol
	}
	if a.Status == statusData {
		if _, n := q.wire(kindGet).clip(int(a.Total)); n != int(a.Length) {
			return nil, ErrProtocol
		}
	}
	q.begun = true
	if !q.rode {
		if d := time.Since(q.sent); l.rtt == 0 || d < l.rtt {
			l.rtt = d
		}
	}
	return q, nil
}

// end takes the answer in and measures the link by it.
func (l *link) end(q *req, a answer, buf *buffer) *fetch {
	now := time.Now()
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	if l.state == dead { // its requests are with others already
		if buf != nil {
			buf.drop()
		}
		return nil
	}
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.out -= q.size
	if a.Length >= minRange {
		l.paceLocked(int64(a.Length), now.Sub(later(q.sent.Add(l.rtt), l.takenAt)))
	}
	l.taken += int64(a.Length)
	l.gotThen = l.got.Load()
	l.takenAt = now
	l.since.Store(now.UnixNano())
	l.bypassed = false
	if d := now.Sub(q.beforeAt); a.Length >= minRange && d > 0 {
		r := float64(l.taken-q.before) / max(d.Seconds(), 1e-4)
		switch {
		case r > l.rate:
			l.rate = r
		case len(l.queue) > 0: // it was busy all the time: it is slower now
			l.rate = 0.9*l.rate + 0.1*r
		}
	}
	if l.rate > 1.1*l.grown {
		l.grown, l.grownAt = l.rate, now
	}
	f := l.t.arrivedLocked(q, a, buf, now)
	if l.refusals > 8 {
		l.t.endLinkLocked(l)
	}
	l.t.assignLocked()
	return f
}

// progressReader notes when bytes came. A trickle does not count.
type progressReader struct {
	r     io.Reader
	since *atomic.Int64
	got   *atomic.Int64
	all   *atomic.Int64 // of the task
	n     int
}

func (r *progressReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.got.Add(int64(n))
	r.all.Add(int64(n))
	if r.n += n; r.n >= trickle {
		r.n = 0
		r.since.Store(time.Now().UnixNano())
	}
	return n, err
}
