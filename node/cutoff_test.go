package node

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/node/fetch"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// A reader that is cut off for a while, from everybody, knows it within
// seconds, blames nobody for it, draws nobody, and reads on afterwards over the
// same relays.
func TestCutOff(t *testing.T) {
	const size, relays = 16 << 20, 24
	content := newBlocks(t, size)
	synctest.Test(t, func(t *testing.T) {
		w := newWhole(t, relaytest.Config{Relays: relays, Latency: 50 * time.Millisecond, Rate: 4_000_000, Connect: startTrips}, content, 3, fetch.Config{})
		defer w.Close()
		off := w.find.paths.view.Doubts
		var away atomic.Bool
		asking, done := make(chan struct{}, 1), make(chan struct{})
		defer close(done)
		off.Ask = func() { poke(asking) }
		go func() { // as discovery does: others are asked whether they are there
			for {
				select {
				case <-asking:
				case <-done:
					return
				}
				if !away.Load() {
					off.Heard()
				}
			}
		}()
		noticed := make(chan time.Duration, 1)
		var before []wire.NodeID
		names := func() (out []wire.NodeID) {
			for _, r := range w.rows() {
				out = append(out, r[pinnedHops].Node)
			}
			return out
		}
		cut := func(f relaytest.Fault) {
			w.line.Do(relaytest.In, f)
			w.line.Do(relaytest.Out, f)
		}
		_, after, err := w.readAll(size/2, func() {
			before = names()
			away.Store(true)
			cut(relaytest.Mute)
			start := time.Now()
			go func() {
				for {
					time.Sleep(100 * time.Millisecond)
					if _, is := off.CutOff(); is || time.Since(start) > time.Minute {
						break
					}
				}
				noticed <- time.Since(start)
				time.Sleep(10 * time.Second)
				cut(relaytest.None)
				away.Store(false)
			}()
		})
		took := <-noticed
		t.Logf("noticed after %v, a read waited %v", took, after)
		if err != nil {
			t.Errorf("when it is on line again: %v", err)
		}
		if took > 6*time.Second {
			t.Errorf("noticed after %v", took)
		}
		if _, is := off.CutOff(); is {
			t.Error("still said to be cut off")
		}
		for i, id := range names()[:len(before)] {
			if id != before[i] && !w.gateway(before[i]) {
				t.Errorf("the third relay of row %d was replaced", i)
			}
		}
		l := w.find.own.legs.of(content.root)
		l.book.mu.Lock()
		defer l.book.mu.Unlock()
		for i, r := range l.rows {
			if r.strikes > 0 {
				t.Errorf("row %d has %d strikes", i, r.strikes)
			}
		}
	})
}
