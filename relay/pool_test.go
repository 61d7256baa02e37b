package relay_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// stallable is a path of two relays whose builder can stop reading.
type stallable struct {
	*relay.Path
	*stuckNetwork
}

func newStallable(t *testing.T, n *relaytest.Net) stallable {
	t.Helper()
	b := n.Builder()
	s := &stuckNetwork{Network: b.Network}
	b.Network, b.Dead = s, time.Hour
	p, err := b.Build(t.Context(), n.Hops(0, 1))
	if err != nil {
		t.Fatal(err)
	}
	return stallable{p, s}
}

// stall makes the first relay wait for the builder, with one frame in hand
// and its links full.
func (s stallable) stall() {
	s.stick()
	for range 8 {
		go s.Ask(context.Background(), []byte("x"))
		synctest.Wait() // frames on their way count too
	}
}

// TestPoolOrder: when the pool is full, the circuit that has stood still for
// longest ends, one for each frame too many. Those that move go on.
func TestPoolOrder(t *testing.T) {
	const room, stalled = 8, 20
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{
			Window: 4 * wire.FrameSize,
			Far:    func(int) relay.Far { return echo{} },
			Limits: relay.Limits{Pool: room * wire.FrameSize, Stall: time.Hour, Idle: time.Hour},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		var ps []stallable
		for range stalled {
			ps = append(ps, newStallable(t, n))
		}
		live := newStallable(t, n)
		for i, p := range ps {
			time.Sleep(time.Second)
			p.stall()
			if got := relay.Held(n.Relay(0)); got > room {
				t.Errorf("%d stalled: relay holds %d frames, want at most %d", i+1, got, room)
			}
		}
		for range 10 {
			if _, err := live.Ask(t.Context(), []byte("y")); err != nil {
				t.Fatalf("the circuit that moves: %v", err)
			}
		}
		live.Close()
		for _, p := range ps {
			p.let()
		}
		synctest.Wait()
		ended := 0
		for i, p := range ps {
			if p.Err() != nil {
				if ended++; ended <= i {
					t.Errorf("circuit %d ended before an older one", i)
				}
			}
			p.Close()
		}
		if least, most := stalled-room, stalled-room+2; ended < least || ended > most {
			t.Errorf("%d circuits ended, want %d to %d", ended, least, most)
		}
	})
}

// TestStandingStillIsNoCrime: while there is room nobody is ended for
// standing still.
func TestStandingStillIsNoCrime(t *testing.T) {
	const stalled = 5
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{
			Window: 4 * wire.FrameSize,
			Far:    func(int) relay.Far { return echo{} },
			Limits: relay.Limits{Stall: time.Hour, Idle: time.Hour},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		var ps []stallable
		for range stalled {
			p := newStallable(t, n)
			p.stall()
			ps = append(ps, p)
		}
		time.Sleep(time.Minute)
		if got := n.Relay(0).Stats().Circuits; got != stalled {
			t.Errorf("%d circuits, want %d", got, stalled)
		}
		for _, p := range ps {
			p.let()
			p.Close()
		}
	})
}
