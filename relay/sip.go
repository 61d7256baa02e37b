package relay

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"wanderfs/relay/wire"
)

// All are ours.
const (
	sips     = 256                   // bytes that are read ahead at most while next takes nothing
	sipAfter = 50 * time.Millisecond // of a write to next
	sipEvery = 80 * time.Millisecond // sips of these are more than Limits.Stall
)

// sip looks after the one before while next takes nothing. Nobody reads then:
// without it the builder's giving up would be seen by the first relay alone, and
// who takes nothing more could tell by how soon he is left whether the one
// before him is the builder. A reset overtakes what has arrived, but only who
// reads hears of it, so a byte is read now and then, of the next frame's head.
type sip struct {
	timer *time.Timer
	stop  atomic.Bool
	wake  chan struct{} // capacity 1: it is to stop
	done  chan struct{} // capacity 1: it has stopped
}

// onward writes a frame to next.
func (c *circuit) onward(f *frame) error {
	s := &c.sip
	if s.timer == nil {
		s.wake, s.done = make(chan struct{}, 1), make(chan struct{}, 1)
		s.timer = time.AfterFunc(sipAfter, c.sipPrev)
	} else {
		s.timer.Reset(sipAfter)
	}
	err := c.next.writeFrame(f, wire.TagSize)
	if s.timer.Stop() {
		return err
	}
	s.stop.Store(true)
	s.wake <- struct{}{}
	c.prev.SetReadDeadline(time.Unix(1, 0))
	<-s.done
	select {
	case <-s.wake:
	default:
	}
	s.stop.Store(false)
	c.prev.rset = time.Time{} // so that the next read sets it
	c.prev.SetReadDeadline(time.Time{})
	return err
}

// sipPrev reads a byte now and then until onward stops it, and ends the circuit
// if the link from before has ended.
func (c *circuit) sipPrev() {
	s := &c.sip
	defer func() { s.done <- struct{}{} }()
	t := time.NewTimer(sipEvery)
	defer t.Stop()
	for !c.r.cfg.leaky.deaf && !s.stop.Load() && c.prev.had < len(c.prev.head)-1 {
		n, err := c.prev.Read(c.prev.head[c.prev.had : c.prev.had+1])
		c.prev.had += n
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				c.end(err)
			}
			return
		}
		t.Reset(sipEvery)
		select {
		case <-t.C:
		case <-s.wake:
			return
		}
	}
}
