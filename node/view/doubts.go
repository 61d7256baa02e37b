package view

import (
	"sync"
	"time"
)

// All are ours; any value works.
const (
	doubtFor  = 10 * time.Second // a failure counts if somebody answers so soon after it
	askPause  = time.Second      // between two rounds of asking whether anybody answers
	cutAfter  = 3 * time.Second  // nobody has answered for so long after a failure: this node is cut off
	maxDoubts = 256              // conclusions that wait; more are not drawn
)

// Doubts holds back what is concluded from the failure of a path until it is
// known that it is not this node that is cut off: somebody has answered since.
// It is safe for concurrent use.
type Doubts struct {
	Ask func() // asks others whether they are there; must not wait, nil asks nobody; set before use
	now func() time.Time

	mu      sync.Mutex
	since   time.Time // of the first failure that nobody has answered after; zero: none
	asked   time.Time // last
	later   bool      // a timer will ask
	waiting []doubt   // in order of time
}

type doubt struct {
	at   time.Time
	then func()
}

// Failed notes that something Failed, and asks whether anybody answers. If so,
// and soon, it calls then, which may be nil, without a lock.
func (d *Doubts) Failed(then func()) {
	d.mu.Lock()
	now := d.now()
	if d.since.IsZero() {
		d.since = now
	}
	if then != nil && len(d.waiting) < maxDoubts {
		d.waiting = append(d.waiting, doubt{now, then})
	}
	d.mu.Unlock()
	d.ask()
}

// ask asks at once, or when the pause is over: what failed in it is to be
// answered as well.
func (d *Doubts) ask() {
	d.mu.Lock()
	wait := askPause - d.now().Sub(d.asked)
	due := d.Ask != nil && !d.later && wait <= 0
	switch {
	case due:
		d.asked = d.now()
	case d.Ask != nil && !d.later:
		d.later = true
		time.AfterFunc(wait, func() {
			d.mu.Lock()
			d.later = false
			open := !d.since.IsZero()
			d.mu.Unlock()
			if open {
				d.ask()
			}
		})
	}
	d.mu.Unlock()
	if due {
		d.Ask()
	}
}

// Heard notes that somebody has answered.
func (d *Doubts) Heard() {
	d.mu.Lock()
	now, was := d.now(), d.waiting
	d.since, d.waiting = time.Time{}, nil
	d.mu.Unlock()
	for _, x := range was {
		if now.Sub(x.at) < doubtFor {
			x.then()
		}
	}
}

// Open reports whether something failed and nobody has answered since.
func (d *Doubts) Open() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.since.IsZero()
}

// CutOff reports whether nobody answers, as far as is known, and for how long.
func (d *Doubts) CutOff() (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since.IsZero() {
		return 0, false
	}
	silent := d.now().Sub(d.since)
	return silent, silent >= cutAfter
}
