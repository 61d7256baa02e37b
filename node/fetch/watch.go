package fetch

import (
	"time"
)

// How a task notices that a path fails without ending. All times are in terms
// of Config.Frozen, here with its default, and of the route's own round trip,
// of at most a second:
//
//	        bytes stop, or come far too slowly
//	            | 300 ms and an eighth of a round trip
//	suspect     what readers wait for is asked for elsewhere, too
//	            | 750 ms and half a round trip
//	bypassed    nothing is asked here, all its requests go elsewhere
//	            | 9 s
//	closed
//
// A doubt costs little: one chunk twice, at most. Bytes clear it. What was asked
// for twice, and comes from neither, is moved to a route that is much sooner.
const (
	deadAfter = 6               // times Config.Frozen
	maxTrip   = 3 * time.Second // a longer round trip is none: nothing comes
	crawl     = 8               // a route so many times slower than it was, or four times less than the others, is in doubt
)

// watchLocked looks after paths that have gone bad: it moves their requests to
// others, closes dead ones, and asks for late parts elsewhere.
func (t *Task) watchLocked(now time.Time) {
	if t.f.cfg.unwatched {
		return
	}
	for _, l := range append([]*link(nil), t.links...) {
		l.silent, l.suspect = false, false
		if l.state != live || len(l.queue) == 0 {
			l.winAt = time.Time{}
			continue
		}
		crawls := l.crawls(now)
		l.slowdown(now)
		trip := min(l.trip(), time.Second)
		frozen := t.f.cfg.Frozen
		silent := now.Sub(later(time.Unix(0, l.since.Load()), l.queue[0].sent.Add(min(l.trip(), maxTrip))))
		l.suspect = crawls || silent > frozen/5+trip/8
		if silent < frozen/2+trip/2 {
			continue
		}
		if silent > deadAfter*frozen {
			t.endLinkLocked(l)
			continue
		}
		l.silent = true
		if l.bypassed || !t.othersLocked(l) {
			continue
		}
		t.f.cfg.Log.Debug("route is silent", "requests", len(l.queue))
		l.bypassed = true
		for _, q := range l.queue {
			q.p.late = true
			t.takeBackLocked(q)
		}
		if t.placesLocked() >= t.f.cfg.Routes {
			t.endLinkLocked(l) // its place is needed for another
		}
	}
	t.copyLocked(now)
}

// copyLocked asks for what readers wait for elsewhere, too, where it is late.
func (t *Task) copyLocked(now time.Time) {
	if t.f.cfg.unwatched {
		return
	}
	for _, f := range t.demanded {
		for _, p := range f.parts {
			if p.done || len(p.reqs) == 0 {
				continue
			}
			q := p.reqs[0]
			p.late = p.late || q.l.suspect
			l := t.pickLocked(f, p, 0)
			if l == nil {
				continue
			}
			if len(p.reqs) >= maxCopies {
				t.moveLocked(f, p, l)
				continue
			}
			if q.l.state == dialing { // asked in its handshake; others are ready before it
				if now.Sub(l.liveAt) > tick {
					l.send(f, p)
				}
				continue
			}
			doubt := q.l.suspect && !l.suspect
			if doubt || now.After(q.due) || l.muchSooner(q) {
				l.send(f, p)
			}
		}
	}
	t.flushLocked()
}

// moveLocked asks l for p instead of the route that would bring it last, if it
// comes much too late from all that were asked: they may lead over the same
// relay, which fails.
func (t *Task) moveLocked(f *fetch, p *part, l *link) {
	var last *req
	for _, q := range p.reqs {
		switch {
		case q.l.state == dialing: // it may take long, and may fail
		case !l.muchSooner(q):
			return
		case last == nil || q.l.left(q) > last.l.left(last):
			last = q
		}
	}
	if last != nil {
		t.takeBackLocked(last)
		l.send(f, p)
	}
}

// muchSooner reports whether the part that q asks for would be here much sooner
// from l.
func (l *link) muchSooner(q *req) bool {
	return q.l.left(q) > 2*l.eta(q.f.size(q.p))+300*time.Millisecond
}

// longSuspect reports whether nothing has come for so long that another route
// is opened to find out, if there is none beyond doubt: sooner than this one is
// given up.
func (l *link) longSuspect(now time.Time) bool {
	return l.suspect && len(l.queue) > 0 && now.Sub(later(time.Unix(0, l.since.Load()), l.queue[0].sent.Add(min(l.trip(), maxTrip)))) > l.t.f.cfg.Frozen/3+min(l.trip(), time.Second)/4
}

// othersLocked reports whether another route than l works.
func (t *Task) othersLocked(l *link) bool {
	for _, o := range t.links {
		if o != l && o.state == live && !o.bypassed && !o.suspect {
			return true
		}
	}
	return false
}

// crawls reports whether bytes come far too slowly for what this route was, or
// for what the others are. It looks at spans in which answers were due all the
// time.
func (l *link) crawls(now time.Time) bool {
	got := l.got.Load()
	span := now.Sub(l.winAt)
	switch {
	case l.winAt.IsZero() || l.queue[0].sent.Add(l.trip()).After(l.winAt):
		// nothing had to come at its beginning
	case span < l.t.f.cfg.Frozen/4+min(l.rtt, time.Second)/4:
		return l.crawling
	default:
		rate := float64(got-l.winGot) / span.Seconds()
		l.crawling = rate < max(l.peak/crawl, l.others()/4)
		l.peak = max(rate, l.peak*0.9)
		l.winAt, l.winGot = now, got
		return l.crawling
	}
	l.winAt, l.winGot, l.crawling = now, got, false
	return false
}

// others returns the mean rate of the other routes, 0 if none is known.
func (l *link) others() float64 {
	var sum float64
	n := 0
	for _, o := range l.t.links {
		if o != l && o.rate > 0 && o.state == live {
			sum += o.rate
			n++
		}
	}
	return sum / float64(max(n, 1))
}

// makeWay takes requests back that stand between the publisher and what a
// reader waits for: those of reading ahead that are not on their way yet. They
// are asked for again behind it, so that the path stays full.
func (l *link) makeWay() {
	if l.state != live || l.rate == 0 || l.t.f.cfg.unwatched {
		return
	}
	coming := int64(l.rate * l.rtt.Seconds() / 2) // what is sent before the publisher hears of it
	for _, q := range append([]*req(nil), l.queue...) {
		if coming -= q.size; coming < 0 && !q.begun && !q.cancelled && q.f.demand == 0 {
			l.t.takeBackLocked(q)
		}
	}
}
