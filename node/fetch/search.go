package fetch

import (
	"context"
	"time"

	"wanderfs/relay/wire"
)

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
	noWay   bool                        // the last dial ended with ErrNoWay
	gone    map[wire.SessionNumber]bool // said that they end
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
	type way struct {
		session wire.SessionNumber
		gateway wire.NodeID
	}
	old := make(map[way][]*candidate)
	sessions := make(map[wire.SessionNumber]bool)
	for _, c := range t.find.cands {
		w := way{c.session, c.route.Gateway()}
		old[w] = append(old[w], c)
		sessions[c.session] = true
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
		w := way{s, r.Gateway()}
		if o := old[w]; len(o) > 0 { // what is known of it stays known
			c, old[w] = o[0], o[1:]
		}
		fresh = fresh || !sessions[s]
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
