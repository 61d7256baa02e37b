package fetch

import (
	"testing"
	"testing/synctest"
	"time"
)

// Over slow routes a reader does not wait for a chunk that one of them brings
// alone, 2 s here, but for its parts, which all of them bring.
func TestSlowRoutesBringParts(t *testing.T) {
	c := newContent(t, 32<<20, 54)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		p.latency, p.rate = 50*time.Millisecond, 5e5
		f := New(Config{Finder: found(p, p, p, p), Store: newMemStore()})
		var last time.Time
		var longest time.Duration
		gaps(t, f, c, func(off int) {
			if off > 8<<20 { // all routes are in use
				longest = max(longest, time.Since(last))
			}
			last = time.Now()
		})
		t.Logf("longest pause %v", longest)
		if longest > time.Second {
			t.Errorf("a pause of %v", longest)
		}
		f.Close()
		p.wg.Wait()
	})
}

// What comes at once from what was saved up is no pace.
func TestPaceOutlastsBurst(t *testing.T) {
	p := newPace(600e3)
	p.add(512<<10, 100*time.Millisecond)
	if got := p.rate(); got > 1.2e6 {
		t.Errorf("%.0f bytes/s after a burst", got)
	}
	for range 16 {
		p.add(2<<20, 250*time.Millisecond)
	}
	if got := p.rate(); got < 8e6 {
		t.Errorf("%.0f bytes/s after 4 s at %d", got, 8<<20)
	}
}
