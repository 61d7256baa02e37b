package view

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What failed is blamed when somebody has answered since, and soon; not when it
// is this node that was cut off.
func TestDoubts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		blamed := 0
		d := &Doubts{now: time.Now, Ask: func() { asked.Add(1) }}
		blame := func() { blamed++ }
		d.Heard()
		d.Failed(blame)
		d.Failed(blame)
		if asked.Load() != 1 || blamed != 0 {
			t.Errorf("at once: asked %d times, blamed %d, want 1 and 0", asked.Load(), blamed)
		}
		time.Sleep(cutAfter - time.Millisecond)
		if asked.Load() != 2 {
			t.Errorf("after the pause: asked %d times, want 2: a failure in it is to be answered as well", asked.Load())
		}
		if _, off := d.CutOff(); off {
			t.Error("cut off before anybody had time to answer")
		}
		d.Heard()
		if blamed != 2 {
			t.Errorf("after an answer: %d are blamed, want 2", blamed)
		}
		d.Failed(blame)
		time.Sleep(doubtFor)
		d.Failed(nil)
		if silent, off := d.CutOff(); !off || silent != doubtFor || asked.Load() != 4 {
			t.Errorf("nobody answers: cut off %v for %v, asked %d times", off, silent, asked.Load())
		}
		d.Heard()
		if _, off := d.CutOff(); off || blamed != 2 {
			t.Errorf("on line again: cut off %v, %d are blamed, want 2", off, blamed)
		}
	})
}
