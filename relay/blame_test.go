package relay

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// slowly is a network in which a dial takes some time.
type slowly struct {
	Network
	takes time.Duration
}

func (s slowly) Dial(ctx context.Context, d wire.Descriptor) (Link, error) {
	time.Sleep(s.takes)
	return s.Network.Dial(ctx, d)
}

// TestLateFailureBlamesTheFarEnd: when a relay takes a set-up and never answers,
// whoever before it loses patience first says that its next has failed; or that
// is the builder. Neither is believed: else a gateway could have pinned relays
// replaced, until one is a friend's.
func TestLateFailureBlamesTheFarEnd(t *testing.T) {
	for try := range 12 { // who is first is chance
		taken := try > 0
		synctest.Test(t, func(t *testing.T) {
			a, b, c, g := newLone(t), newLone(t), newLone(t), newLone(t)
			const way = 50 * time.Millisecond
			a.r.cfg.Network = slowly{b, way}
			b.r.cfg.Network = slowly{c, way}
			c.r.cfg.Network = slowly{mute{taken}, way} // the gateway
			_, err := (&Builder{Network: a}).Build(context.Background(), []wire.Descriptor{a.d, b.d, c.d, g.d})
			var hop *HopError
			if !errors.As(err, &hop) || hop.Index != 3 {
				t.Errorf("taken %v: got %v, want the gateway to be blamed", taken, err)
			}
			if got := errors.Is(err, ErrNoReply); got != taken || errors.Is(err, ErrFailed) == taken {
				t.Errorf("taken %v: ErrNoReply %v", taken, got)
			}
			for _, l := range []*lone{a, b, c, g} {
				l.r.Close()
			}
		})
	}
}
