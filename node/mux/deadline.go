package mux

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errTimeout = os.ErrDeadlineExceeded
	errStalled = errors.New("multiplexer: the other side does not move") // for long, so the connection ends
)

// deadline is a moment after which waiting ends. Its zero value is never.
type deadline struct {
	past atomic.Bool // the moment has come; looked at without the lock

	mu     sync.Mutex
	timer  *time.Timer
	set    uint64        // how often the deadline was moved
	passed chan struct{} // closed when the moment has come; nil: nobody has waited
	over   bool
}

// move moves the deadline; the zero time means never.
func (d *deadline) move(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return
	}
	d.set++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.past.Swap(false) {
		d.passed = nil
	}
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.passLocked()
		return
	}
	set := d.set
	d.timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.set == set { // not moved just now
			d.passLocked()
		}
	})
}

func (d *deadline) passLocked() {
	d.past.Store(true)
	if d.passed == nil {
		d.passed = make(chan struct{})
	}
	close(d.passed)
}

// end stops the deadline for good.
func (d *deadline) end() {
	d.move(time.Time{})
	d.mu.Lock()
	d.over = true
	d.mu.Unlock()
}

// wait gives a channel that is closed when the moment has come.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passed == nil {
		d.passed = make(chan struct{})
	}
	return d.passed
}
