package fetch

import (
	"math"
	"time"

	"wanderfs/cache/chunk"
)

// Several routes often share what the publisher may send. Each brings a chunk of
// its own then, all of them slowly, and a reader waits for one while others come
// that he needs later. So a task whose routes are slow asks for chunks in parts,
// each part from the route that brings it soonest, and for little at once: what
// comes is what is read next, and neither a session's word that it leaves nor an
// urgent request has much before it. All are ours; any value works.
const (
	slowRate  = 5 << 19                // bytes/s; slower is slow
	pieceTime = 125 * time.Millisecond // a part takes about so long
	paceSpan  = time.Second            // of a route's time of which its pace is the mean, the more of what is newer
)

// pace is how fast a route is while answers are due. Its rate jumps instead: a
// new route may have all that a session may send while the others are being
// built, and what that has saved up.
type pace struct{ bytes, seconds float64 }

// newPace begins with what the task knows of its routes.
func newPace(rate float64) pace { return pace{rate * paceSpan.Seconds(), paceSpan.Seconds()} }

// add counts n bytes that the route has brought in d.
func (p *pace) add(n int64, d time.Duration) {
	s := max(d, time.Millisecond).Seconds()
	k := math.Exp(-s / paceSpan.Seconds())
	p.bytes, p.seconds = p.bytes*k+float64(n), p.seconds*k+s
}

// rate gives bytes a second.
func (p *pace) rate() float64 { return p.bytes / max(p.seconds, 1e-3) }

// paceLocked counts n bytes that l has brought in d. The task's pace is that of
// its fastest route; it is slow where a chunk takes long even over that.
func (l *link) paceLocked(n int64, d time.Duration) {
	t := l.t
	if l.pace.seconds == 0 && t.paceKnown() {
		l.pace = newPace(t.pace)
	}
	l.pace.add(n, d)
	t.pace = l.pace.rate()
	for _, o := range t.links {
		if o.state == live {
			t.pace = max(t.pace, o.pace.rate())
		}
	}
	switch {
	case t.pace > slowRate*3/2:
		t.slow = false
	case t.pace < slowRate && !t.slow:
		t.slow = true
		t.cutAgainLocked()
	}
}

// cutAgainLocked has chunks that were asked for whole, and are not on their way
// yet, asked for in parts.
func (t *Task) cutAgainLocked() {
	for _, l := range t.links {
		for _, q := range append([]*req(nil), l.queue...) {
			if q.begun || q.cancelled || q.f.whole || q.p.n != wholeLength || len(q.p.reqs) != 1 || q.f.verifying || !q.f.ref.IsRaw() {
				continue
			}
			t.takeBackLocked(q)
			q.p.dead = true
			q.f.parts = nil
		}
	}
}

// paceKnown reports whether the pace says something of routes that nothing has
// come over yet: one that is slow or fails says nothing of another.
func (t *Task) paceKnown() bool { return t.pace > 0 && t.done >= widen }

// cutLocked has f asked for in parts of n bytes.
func (f *fetch) cutLocked(n int) {
	for off := 0; off < chunk.Size; off += n {
		f.parts = append(f.parts, &part{off: off, n: n})
	}
}

// pieceLocked returns in parts of how many bytes f is to be asked for also while
// nobody waits for it; 0: whole. Of several sessions two must be proven, since it
// is hard to see which one spoils what comes from all.
func (t *Task) pieceLocked(f *fetch) int {
	if f.whole || !f.ref.IsRaw() || !t.slow {
		return 0
	}
	proven := 0
	var one *link // of the only session, as far as is seen
	several := false
	for _, l := range t.links {
		if !l.usable(f) {
			continue
		}
		if one == nil {
			one = l
		}
		several = several || l.session != one.session
		if l.proven {
			proven++
		}
	}
	if one == nil || several && proven < 2 {
		return 0
	}
	if n := pieceFor(t.pace); int64(n) < f.size(nil) {
		return n
	}
	return 0
}

// pieceFor returns how many bytes a route of some speed is asked for at once.
func pieceFor(speed float64) int {
	n := minRange
	for n < maxRange && float64(2*n) <= speed*pieceTime.Seconds() {
		n *= 2
	}
	return n
}
