package relay_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
)

// TestPuzzleUnderLoad: nobody works while few join; then only who works gets
// in, as long as the bucket lasts; and a session that asks for none gets none.
func TestPuzzleUnderLoad(t *testing.T) {
	for _, c := range []struct {
		name         string
		effort       int
		idle, worker int // joins that work without and, after those, with solving
	}{
		{"4 bits", 4, 7, 5}, // of a bucket of 12
		{"none", 0, 12, 0},
	} {
		synctest.Test(t, func(t *testing.T) { // no time passes, so the bucket does not fill again
			n, err := relaytest.New(relaytest.Config{Limits: relay.Limits{Joins: 3}})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			w := &way{}
			if w.s, err = relay.NewSession(); err != nil {
				t.Fatal(err)
			}
			if err := w.s.SetEffort(c.effort); err != nil {
				t.Fatal(err)
			}
			if w.pub, err = n.Builder().Build(t.Context(), n.Hops(2, 1)); err != nil {
				t.Fatal(err)
			}
			defer w.pub.Close()
			if w.listen, err = w.pub.Listen(t.Context(), w.s, w.join); err != nil {
				t.Fatal(err)
			}
			go func() {
				for {
					if _, err := w.listen.Accept(context.Background()); err != nil {
						return
					}
				}
			}()
			for _, who := range []struct{ max, want int }{{-1, c.idle}, {0, c.worker}} {
				b := n.Builder()
				b.MaxEffort = who.max
				p, err := b.Build(t.Context(), n.Hops(0, 1))
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				joined := 0
				for range 20 {
					if _, err := p.Join(t.Context(), w.s.Keys(), w.join, nil); err == nil {
						joined++
					} else if !errors.Is(err, relay.ErrRefused) {
						t.Fatal(err)
					}
				}
				if joined != who.want {
					t.Errorf("%s, most effort %d: got %d joins, want %d", c.name, who.max, joined, who.want)
				}
			}
		})
	}
}
