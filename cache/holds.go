package cache

import (
	"errors"

	"wanderfs/cache/chunk"
)

// ErrTooMany: more chunks are kept below pins than this cache remembers.
var ErrTooMany = errors.New("too many chunks below pins")

// maxHeld bounds the chunks below pins: each takes about 200 bytes of memory
// while the cache is open, and 64 on disk.
const maxHeld = pinMax/2 - pinSlack

// firstRound is that of holds that were read at opening; Round begins the
// next ones.
const firstRound = 1

// pin says why a chunk stays. Guarded by quota.mu.
type pin struct {
	ref   chunk.Ref
	root  bool   // by Pin
	round uint32 // of the last Hold; 0: not held
}

// Round begins a new round of holds. Who keeps whole trees walks all of them
// in a round, holds each chunk in it, and then sweeps: so no chunk needs to
// know how many trees it is in.
func (c *Cache) Round() uint32 {
	c.pins.mu.Lock()
	defer c.pins.mu.Unlock()
	c.pins.round = max(c.pins.round, firstRound) + 1
	return c.pins.round
}

// Hold keeps r from being evicted, as Pin does, until a later round is swept in
// which it was not held. It reports whether this is the first time in this
// round. ErrTooMany says that there are too many. Holds survive restarts.
func (c *Cache) Hold(r chunk.Ref, round uint32) (first bool, err error) {
	if _, inline := r.Inline(); inline || r.IsZero() {
		return false, nil
	}
	if err := c.enter(); err != nil {
		return false, err
	}
	defer c.leave()
	n := c.keys.slot(r).name
	c.pins.mu.Lock()
	defer c.pins.mu.Unlock()
	was, ok := c.quota.hold(n, r, round)
	if !ok {
		return false, ErrTooMany
	}
	if was == 0 {
		c.noteLocked(opHold, r)
	}
	return was < round, nil
}

// Sweep lets go of what was not held in round or later, and returns how many
// chunks these were.
func (c *Cache) Sweep(round uint32) int {
	if c.enter() != nil {
		return 0
	}
	defer c.leave()
	c.pins.mu.Lock()
	defer c.pins.mu.Unlock()
	old := c.quota.sweep(round)
	if len(old) > pinSlack { // one writing of all is cheaper
		c.notSaved(c.pins.rewriteLocked(c))
		return len(old)
	}
	for _, r := range old {
		c.noteLocked(opLoose, r)
	}
	return len(old)
}

// pin notes that r, called n, must stay, and reports whether that is new.
func (q *quota) pin(n name, r chunk.Ref) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.pins[n]
	if p.root {
		return false
	}
	p.ref, p.root = r, true
	q.setLocked(n, p)
	return true
}

// unpin undoes pin, and reports whether there was one.
func (q *quota) unpin(n name) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.pins[n]
	if !p.root {
		return false
	}
	p.root = false
	q.setLocked(n, p)
	return true
}

// hold is like pin, in a round, and returns the round of the hold before. It
// does nothing, and is not ok, when there are too many.
func (q *quota) hold(n name, r chunk.Ref, round uint32) (was uint32, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.pins[n]
	was = p.round
	if was == 0 && q.held >= maxHeld {
		return 0, false
	}
	p.ref, p.round = r, max(round, was)
	q.setLocked(n, p)
	return was, true
}

// loosen undoes hold.
func (q *quota) loosen(n name) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.pins[n]
	p.round = 0
	q.setLocked(n, p)
}

// sweep loosens all that was last held before round.
func (q *quota) sweep(round uint32) (old []chunk.Ref) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n, p := range q.pins {
		if p.round > 0 && p.round < round {
			old = append(old, p.ref)
			p.round = 0
			q.setLocked(n, p)
		}
	}
	return old
}

// setLocked replaces what is known of n's pin.
func (q *quota) setLocked(n name, p pin) {
	was, there := q.pins[n]
	if was.round > 0 {
		q.held--
	}
	if p.round > 0 {
		q.held++
	}
	stays := p.root || p.round > 0
	if stays {
		q.pins[n] = p
	} else {
		delete(q.pins, n)
	}
	if stays != there {
		q.replaceLocked(n)
	}
}

func (q *quota) isRoot(n name) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.pins[n].root
}

func (q *quota) pinList() []chunk.Ref {
	return q.refs(func(p pin) bool { return p.root })
}

func (q *quota) heldList() []chunk.Ref {
	return q.refs(func(p pin) bool { return p.round > 0 })
}

func (q *quota) refs(which func(pin) bool) []chunk.Ref {
	q.mu.Lock()
	defer q.mu.Unlock()
	var l []chunk.Ref
	for _, p := range q.pins {
		if which(p) {
			l = append(l, p.ref)
		}
	}
	return l
}

// pinCount is how many chunks are pinned or held: each takes one record of the
// log, or two.
func (q *quota) pinCount() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(len(q.pins))
}
