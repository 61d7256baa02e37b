package fetch

import (
	"cmp"
	"context"
	"time"

	"wanderfs/relay/wire"
)

const (
	firstTwo  = 2               // routes that a task begins with
	widen     = 4 << 20         // bytes; who read so much gets all routes
	dialSlow  = 5 * time.Second // another route is dialled beside it, sooner where none works
	dialQuick = 2 * time.Second // but not sooner than this
	lostAfter = time.Second     // without bytes, and with every route in doubt, others are looked for
	dialLimit = 20 * time.Second
	maxRetry  = 10 * time.Second // between tries of one route

	// noWayTries is the most that a failure on the reader's own side counts as:
	// the route is tried again within a second.
	noWayTries = 2
)

// candidate is a route that can be dialled, more than once: each dial builds
// another path.
type candidate struct {
	route   Route
	session wire.SessionNumber
	open    int       // links
	fails   int       // in a row
	after   time.Time // not before
	drained bool      // its last dial may not draw relays yet
}

// maxOpen is how many links may lead over one candidate. Two, so that a dying
// path is no end even where there is one gateway only.
const maxOpen = 2

// routesLocked opens routes and looks for sources, as many as are needed.
func (t *Task) routesLocked(now time.Time) {
	goal := min(firstTwo, t.f.cfg.Routes)
	if t.done >= widen || len(t.demanded)+len(t.ahead) > widen>>20 {
		goal = t.f.cfg.Routes
	}
	t.width = max(t.width, goal)
	var starved *fetch // one that no open route may have
	for _, f := range t.demanded {
		if !t.servedLocked(f) {
			starved = f
			break
		}
	}
	if starved != nil && (len(starved.absent) > 0 || len(t.bad) > 0) {
		if hope, _ := t.hopeLocked(starved); !hope { // only another source can help
			t.find.next = earlier(t.find.next, t.find.ended.Add(250*time.Millisecond<<min(t.find.tries, 4)))
		}
	}
	working := 0
	doubtful := !t.othersLocked(nil)
	for _, l := range t.links {
		slow := l.leaving || doubtful && l.state == live && l.longSuspect(now) || l.silent || l.bypassed || t.slowDialLocked(l, now)
		if !slow && (starved == nil || !starved.absent[l.session]) {
			working++
		}
	}
	for working < goal {
		c := t.candidateLocked(now, starved)
		if c == nil {
			break
		}
		if t.placesLocked() >= t.f.cfg.Routes && !t.makeRoomLocked(now, starved) {
			break
		}
		t.dialLocked(c)
		working++
	}
	t.makePlaceLocked()
	// Without any route it is urgent; more routes than one are a comfort.
	pause := min(250*time.Millisecond<<min(t.find.tries, 4), 3*time.Second)
	lost := doubtful && t.find.reached && now.Sub(t.moved) > lostAfter // those that are being built may lead nowhere, too
	if lost {
		t.find.next = earlier(t.find.next, t.find.ended.Add(pause))
	}
	if (working < goal || lost) && !t.find.running && !now.Before(t.find.next) {
		t.find.running = true
		t.find.begun++
		if working > 0 && !lost {
			pause = 10 * time.Second
		}
		t.wg.Go(func() { t.search(pause) })
	}
}

// servedLocked reports whether an open route may have f.
func (t *Task) servedLocked(f *fetch) bool {
	for _, l := range t.links {
		if !l.bypassed && !f.absent[l.session] {
			return true
		}
	}
	return false
}

// slowDialLocked reports whether a route is being built for so long that
// another one is beside it. Where no route works that is half as long again as
// it ever took: a relay on the way may be silent, which takes its neighbour
// seconds to find out.
func (t *Task) slowDialLocked(l *link, now time.Time) bool {
	if l.state != dialing {
		return false
	}
	slow := dialSlow
	if t.dialTook > 0 && !t.othersLocked(nil) {
		slow = min(slow, max(dialQuick, t.dialTook*3/2))
	}
	return now.Sub(l.dialAt) > slow
}

// makeRoomLocked closes the route that is of the least use; where none works,
// that which is being built for longest, if it is slow.
func (t *Task) makeRoomLocked(now time.Time, starved *fetch) bool {
	for _, l := range t.links {
		if !l.leaving && (l.bypassed || starved != nil && starved.absent[l.session]) {
			t.endLinkLocked(l)
			return true
		}
	}
	if t.othersLocked(nil) {
		return false
	}
	for _, l := range t.links { // in the order in which they were dialled
		if t.slowDialLocked(l, now) {
			t.endLinkLocked(l)
			return true
		}
	}
	return false
}

// candidateLocked returns the next route to dial: of the session with the
// fewest open links, then the one that is used and failed least. To one that
// works a second path is built before another is to one that just failed.
func (t *Task) candidateLocked(now time.Time, starved *fetch) *candidate {
	open := make(map[wire.SessionNumber]int)
	for _, l := range t.links {
		if !l.leaving {
			open[l.session]++
		}
	}
	var best *candidate
	for _, c := range t.find.cands {
		if c.open >= maxOpen || t.bad[c.session] || t.find.gone[c.session] || now.Before(c.after) || starved != nil && starved.absent[c.session] {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(open[c.session], open[best.session]),
			cmp.Compare(c.open+c.fails, best.open+best.fails), cmp.Compare(c.fails, best.fails)) < 0 {
			best = c
		}
	}
	return best
}

// dialLocked opens a route. What a reader waits for rides in its handshake.
func (t *Task) dialLocked(c *candidate) {
	l := &link{t: t, cand: c, session: c.session, notify: make(chan struct{}, 1), dialAt: time.Now()}
	l.ctx, l.cancel = context.WithCancel(t.ctx)
	c.open++
	for _, f := range t.demanded {
		if f.verifying || f.absent[c.session] || len(l.pending)+RequestSize > MaxFirst {
			continue
		}
		if len(f.parts) == 0 {
			t.planLocked(f)
		}
		for _, p := range f.parts {
			if !p.done && len(p.reqs) == 0 && len(l.pending)+RequestSize <= MaxFirst && l.out < minWindow {
				l.send(f, p).rode = true
			}
		}
	}
	first := l.pending
	l.pending = nil
	t.links = append(t.links, l)
	route := l.cand.route // a search may replace it from now on
	t.wg.Go(func() {
		limit := time.AfterFunc(dialLimit, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if l.state == dialing {
				l.cancel()
			}
		})
		defer limit.Stop()
		l.run(route, first)
	})
}

// linkEnded is told by a link whose connection is over. lied says that its
// session broke the protocol.
func (t *Task) linkEnded(l *link, lied bool) {
	t.mu.Lock()
	if lied {
		t.banLocked(l.session)
	}
	t.endLinkLocked(l)
	t.assignLocked()
	t.mu.Unlock()
	t.kick()
}

// endLinkLocked closes l and hands its requests to others.
func (t *Task) endLinkLocked(l *link) {
	if l.state == dead {
		return
	}
	now := time.Now()
	worked := l.state == live && l.taken > 0
	l.gaveUp = l.state == live && (l.silent || l.bypassed)
	l.state = dead
	l.cancel()
	t.links = remove(t.links, l)
	if c := l.cand; !l.leaving { // else it has gone as it should
		c.open--
		c.fails++
		switch {
		case worked:
			c.fails = 1
		case l.noWay:
			c.fails = max(c.fails-1, min(c.fails, noWayTries))
		}
		c.after = now.Add(min(250*time.Millisecond<<min(c.fails, 6), maxRetry))
		if c.drained {
			c.drained = false
			t.find.drained = t.f.drawAgain()
			c.after = later(c.after, t.find.drained)
		}
	}
	if len(t.links) == 0 { // look again at once, but not in a loop
		t.find.next = earlier(t.find.next, now.Add(250*time.Millisecond<<min(t.find.tries, 4)))
	}
	if t.f.cfg.unwatched {
		return
	}
	for _, q := range l.queue {
		q.p.reqs = remove(q.p.reqs, q)
	}
	for _, q := range l.queue {
		t.orphanLocked(q.f)
	}
	l.queue, l.out = nil, 0
	t.kick()
}
