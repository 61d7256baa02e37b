package fetch

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"wanderfs/relay/wire"
)

const (
	tick      = 100 * time.Millisecond // how often a task looks at its deadlines while it wants something
	firstTwo  = 2                      // routes that a task begins with
	widen     = 4 << 20                // bytes; who read so much gets all routes
	dialSlow  = 5 * time.Second        // another route is dialled beside it
	dialLimit = 20 * time.Second
	maxRetry  = 10 * time.Second // between tries of one route
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

// finding is what a task knows of its sources. Guarded by Task.mu.
type finding struct {
	running bool
	tries   int       // in a row that found nothing
	next    time.Time // not before
	ended   time.Time // when the last search was over
	begun   int       // searches
	heard   int       // begun when the last that was answered began, itself included
	cands   []*candidate
	known   int                         // sessions found by the last search that found any
	reached bool                        // a dial worked
	drained time.Time                   // until then a route may draw no relays
	gone    map[wire.SessionNumber]bool // said that they end
}

// run keeps the task's routes and deadlines until the fetcher closes, or until
// nobody has used the task for a while.
func (t *Task) run() {
	defer t.finish()
	timer := time.NewTimer(t.f.cfg.Idle)
	defer timer.Stop()
	for {
		now := time.Now()
		t.mu.Lock()
		busy := len(t.demanded) > 0 || len(t.ahead) > 0
		if busy {
			t.active = now
			t.handOverLocked()
			t.watchLocked(now)
			t.deadlinesLocked(now)
			t.routesLocked(now)
			t.assignLocked()
		}
		if !busy {
			t.endLeavingLocked()
		}
		idle := now.Sub(t.active)
		if !busy && idle >= t.f.cfg.Idle {
			for _, l := range append([]*link(nil), t.links...) {
				t.endLinkLocked(l)
			}
		}
		t.mu.Unlock()
		if !busy && idle >= t.f.cfg.Idle && t.f.retire(t) {
			return
		}
		switch {
		case busy:
			timer.Reset(tick)
		case idle < t.f.cfg.Idle:
			timer.Reset(t.f.cfg.Idle - idle)
		default:
			timer.Reset(t.f.cfg.Idle)
		}
		select {
		case <-t.wake:
		case <-timer.C:
		case <-t.ctx.Done():
			return
		}
	}
}

// finish ends all that the task began. Called once, by its owner.
func (t *Task) finish() {
	t.f.mu.Lock()
	if t.f.tasks[t.root] == t {
		delete(t.f.tasks, t.root)
	}
	t.f.mu.Unlock()
	t.cancel()
	t.mu.Lock()
	t.closed = true
	for _, f := range t.fetches {
		t.failLocked(f, ErrClosed)
	}
	for _, l := range append([]*link(nil), t.links...) {
		t.endLinkLocked(l)
	}
	t.mu.Unlock()
	t.wg.Wait()
	t.mu.Lock()
	t.recent.clear()
	t.mu.Unlock()
}

// deadlinesLocked ends what waited too long.
func (t *Task) deadlinesLocked(now time.Time) {
	for _, f := range append(append([]*fetch(nil), t.demanded...), t.ahead...) {
		if f.verifying || f.finished() {
			continue
		}
		last := later(f.since, f.progress)
		for _, p := range f.parts {
			for _, q := range p.reqs {
				if q.l.state == live {
					last = later(last, time.Unix(0, q.l.since.Load()))
				}
			}
		}
		waited := now.Sub(last)
		hope, why := t.hopeLocked(f)
		var err error
		switch {
		case waited >= t.f.cfg.Stall:
			err = fmt.Errorf("%w: %s", ErrStalled, why)
			if t.find.known == 0 && !t.find.reached {
				err = ErrNotFound
			}
		case !hope && (waited >= t.f.cfg.Lookup || t.refutedLocked(f)):
			err = fmt.Errorf("%w: %s", ErrNotFound, why)
			if len(t.bad) > 0 {
				err = fmt.Errorf("%w: %s", ErrStalled, why)
			}
		default:
			if waited > 2*time.Second {
				t.stalled = why
			}
			continue
		}
		t.stalled = why
		for w := range t.wants {
			w.refs = remove(w.refs, f.ref)
		}
		if f.demand > 0 {
			t.f.note(f.ref, why)
			t.f.note(t.root, why)
		}
		t.failLocked(f, err)
	}
}

// refutedLocked reports whether there were sources of f, each has lied or said
// that it does not hold it, and looking again has found no other: waiting
// longer would bring nothing.
func (t *Task) refutedLocked(f *fetch) bool {
	if len(f.absent) == 0 && len(t.bad) == 0 {
		return false
	}
	return t.find.heard > max(f.after, t.banned)
}

// hopeLocked reports whether a source that may have f is known, and why
// nothing comes, in words for the user.
func (t *Task) hopeLocked(f *fetch) (bool, string) {
	var connected, silent, building int
	for _, l := range t.links {
		switch {
		case f.absent[l.session]:
		case l.state == dialing:
			building++
		case l.bypassed:
			silent++
		default:
			connected++
		}
	}
	open := 0
	for _, c := range t.find.cands {
		if !f.absent[c.session] && !t.bad[c.session] && !t.find.gone[c.session] {
			open++
		}
	}
	hope := connected+silent+building+open > 0
	switch {
	case connected+silent > 0:
		return hope, "the sources are connected but silent"
	case building > 0:
		return hope, "no path to a source is ready yet"
	case open > 0 && time.Now().Before(t.find.drained):
		return hope, ErrRebuilds.Error()
	case open > 0:
		return hope, "sources are known but cannot be reached"
	case len(f.absent) > 0 && len(t.bad) > 0:
		return hope, "some sources sent wrong data, and no other has this part"
	case len(f.absent) > 0:
		return hope, "no source has this part any more"
	case len(t.bad) > 0:
		return hope, "the only sources sent wrong data"
	default:
		return hope, "nobody was found who shares it"
	}
}

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
		slow := l.leaving || doubtful && l.state == live && l.longSuspect(now) || l.silent || l.bypassed || l.state == dialing && now.Sub(l.dialAt) > dialSlow
		if !slow && (starved == nil || !starved.absent[l.session]) {
			working++
		}
	}
	for working < goal {
		c := t.candidateLocked(now, starved)
		if c == nil {
			break
		}
		if t.placesLocked() >= t.f.cfg.Routes && !t.makeRoomLocked(starved) {
			break
		}
		t.dialLocked(c)
		working++
	}
	if working < goal && !t.find.running && !now.Before(t.find.next) {
		t.find.running = true
		t.find.begun++
		// Without any route it is urgent; more routes than one are a comfort.
		pause := min(250*time.Millisecond<<min(t.find.tries, 4), 3*time.Second)
		if working > 0 {
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

// makeRoomLocked closes the route that is of the least use.
func (t *Task) makeRoomLocked(starved *fetch) bool {
	for _, l := range t.links {
		if !l.leaving && (l.bypassed || starved != nil && starved.absent[l.session]) {
			t.endLinkLocked(l)
			return true
		}
	}
	return false
}

// candidateLocked returns the next route to dial: of the session with the
// fewest open links, then the least used, then the one that failed least.
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
			cmp.Compare(c.open, best.open), cmp.Compare(c.fails, best.fails)) < 0 {
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
		if worked {
			c.fails = 1
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

// search asks the Finder once.
func (t *Task) search(pause time.Duration) {
	ctx, cancel := context.WithTimeout(t.ctx, t.f.cfg.Lookup)
	routes, err := t.f.cfg.Finder.Find(context.WithValue(ctx, taskKey{}, t), t.root)
	cancel()
	if err != nil {
		routes = nil
	}
	t.mu.Lock()
	defer t.kick()
	defer t.mu.Unlock()
	now := time.Now()
	t.find.running = false
	t.find.next, t.find.ended = now.Add(pause), now
	if err == nil {
		t.find.heard = t.find.begun
	}
	t.find.tries++
	known := make(map[wire.SessionNumber]bool)
	old := make(map[wire.SessionNumber][]*candidate)
	for _, c := range t.find.cands {
		old[c.session] = append(old[c.session], c)
	}
	var cands []*candidate
	fresh := false
	for _, r := range routes[:min(len(routes), maxCandidates)] {
		s := r.Session()
		if !t.find.gone[s] {
			known[s] = true
		}
		if t.bad[s] || t.find.gone[s] {
			continue
		}
		c := &candidate{}
		if o := old[s]; len(o) > 0 { // what is known of it stays known
			c, old[s] = o[0], o[1:]
		} else {
			fresh = true
		}
		c.route, c.session = r, s
		cands = append(cands, c)
	}
	if len(cands) > 0 {
		t.find.cands = cands
	}
	if len(known) > 0 {
		t.find.known = len(known)
	}
	if fresh {
		t.find.tries = 0
	}
}

// maxCandidates bounds how many routes of one search are looked at.
const maxCandidates = 32

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
