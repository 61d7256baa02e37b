package relay_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
)

// TestStreamsOfAll: who fills a gateway with streams over one of its neighbours
// does not find out which sessions' standing paths come over that one: none of
// them refuses a reader, whose stream takes the place of one of his. What all
// hold together is bounded.
func TestStreamsOfAll(t *testing.T) {
	const all = 40
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{Relays: 8, Limits: relay.Limits{StreamsAll: all, Joins: 1e6}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		accept := func(w *way) {
			for {
				if _, err := w.listen.Accept(context.Background()); err != nil {
					return
				}
			}
		}
		join := func(w *way) error {
			_, err := w.read.Join(t.Context(), w.s.Keys(), w.join, nil)
			if err != nil && !errors.Is(err, relay.ErrRefused) {
				t.Fatal(err)
			}
			synctest.Wait()
			return err
		}
		const suspect, other = 4, 5
		var attacks []*way
		for range 3 { // the attacker's own sessions, over the suspect
			w := standing(t, n, 6, suspect, 3)
			go accept(w)
			w.read = build(t, n, 0, 1, 3)
			attacks = append(attacks, w)
			for range all {
				if join(w) != nil {
					break
				}
			}
		}
		for _, by := range []int{suspect, other} {
			w := standing(t, n, 7, by, 3)
			go accept(w)
			for i := range 3 {
				w.read = build(t, n, 0, 2, 3)
				if err := join(w); err != nil {
					t.Errorf("session over relay %d, reader %d: %v", by, i, err)
				}
				defer w.read.Close()
			}
			defer w.pub.Close()
		}
		if got := relay.Open(n.Relay(3)); got > all {
			t.Errorf("%d streams end here, want at most %d", got, all)
		}
		for _, w := range attacks {
			w.read.Close()
			w.pub.Close()
		}
		synctest.Wait()
		if got, want := relay.Open(n.Relay(3)), int64(2*2*3); got != want {
			t.Errorf("%d streams are left, want %d", got, want)
		}
	})
}
