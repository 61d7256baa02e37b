package fetch

import (
	"cmp"
	"slices"
	"time"

	"wanderfs/relay/wire"
)

// Sessions end while content is read: the publisher's says so in the
// connection, the reader's own by Retiring. Either way the link goes on until
// another one works, and then ends when its last answer is in:
//
//	live -> leaving, its place is free -> another is live: nothing more is
//	asked -> queue empty: closed
//
// While all of the reader's paths lead to a publisher's session that leaves, half
// of them end first: there is no room for one to its successor.

// Retiring is a connection whose own session ends: Retired is closed when
// another dial of the same route leads over a successor.
type Retiring interface {
	Retired() <-chan struct{}
}

// handOverIn is how far ahead a leaving link's requests may be to stay with it;
// ours.
const handOverIn = time.Second

// maxGone bounds how many ended sessions a task remembers.
const maxGone = 64

func (l *link) awaitRetirement(r Retiring) {
	select {
	case <-r.Retired():
		l.t.mu.Lock()
		l.retired = true
		l.leaveLocked()
		l.t.mu.Unlock()
		l.t.kick()
	case <-l.ctx.Done():
	}
}

// told takes in that the session ends soon: all its links leave, it is dialled
// no more, and its successor is looked for at once.
func (l *link) told() error {
	t := l.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.goodbye {
		return ErrProtocol
	}
	l.goodbye = true
	if t.find.gone == nil || len(t.find.gone) >= maxGone {
		t.find.gone = make(map[wire.SessionNumber]bool)
	}
	if !t.find.gone[l.session] {
		t.find.gone[l.session] = true
		t.find.next = earlier(t.find.next, time.Now().Add(250*time.Millisecond<<min(t.find.tries, 4)-250*time.Millisecond))
	}
	for _, o := range t.links {
		if o.session == l.session {
			o.leaveLocked()
		}
	}
	t.kick()
	return nil
}

// leaveLocked frees the link's place for its successor.
func (l *link) leaveLocked() {
	if l.leaving || l.state == dead {
		return
	}
	l.leaving = true
	l.cand.open--
}

// succeededLocked reports whether f, or with nil anything, can be asked of
// another link than l, which leaves: of one that stays, or that leaves later.
func (t *Task) succeededLocked(l *link, f *fetch) bool {
	for _, o := range t.links {
		if o != l && o.state == live && (!o.leaving || l.first && !o.first) && !o.bypassed && (f == nil || !f.absent[o.session]) {
			return true
		}
	}
	return false
}

// makePlaceLocked lets half of the leaving links end before another works, if a
// dial may wait for that: a session of the reader's own has no more paths than
// Config.Routes. Where that session leaves itself, its successor has room.
func (t *Task) makePlaceLocked() {
	dials := false
	var rest []*link
	for _, l := range t.links {
		switch {
		case l.first, l.state == live && !l.leaving:
			return
		case l.state == dialing:
			dials = true
		case l.leaving && !l.retired:
			rest = append(rest, l)
		}
	}
	if !dials || len(rest) < t.f.cfg.Routes {
		return
	}
	slices.SortFunc(rest, func(a, b *link) int { return cmp.Compare(a.out, b.out) })
	for _, l := range rest[:len(rest)/2] {
		l.first = true
	}
}

// placesLocked counts the links that take a place among Config.Routes.
func (t *Task) placesLocked() int {
	n := 0
	for _, l := range t.links {
		if !l.leaving {
			n++
		}
	}
	return n
}

// handOverLocked ends the leaving links that have nothing more to bring, and
// asks others for what a leaving one would bring too late.
func (t *Task) handOverLocked() {
	for _, l := range append([]*link(nil), t.links...) {
		if !l.leaving || l.state == live && !t.succeededLocked(l, nil) {
			continue
		}
		if len(l.queue) == 0 {
			t.endLinkLocked(l)
			continue
		}
		for _, q := range append([]*req(nil), l.queue...) {
			if !q.begun && !q.cancelled && (l.state == dialing || l.left(q) > handOverIn) {
				t.takeBackLocked(q)
			}
		}
	}
}

// endLeavingLocked ends them all: nobody waits for anything.
func (t *Task) endLeavingLocked() {
	for _, l := range append([]*link(nil), t.links...) {
		if l.leaving {
			t.endLinkLocked(l)
		}
	}
}
