package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// mute is a network whose nodes take all bytes and say nothing.
type mute struct{ taken bool }

func (m mute) Dial(_ context.Context, d wire.Descriptor) (Link, error) {
	a, b := net.Pipe()
	go func() {
		io.CopyN(io.Discard, b, wire.FrameSize)
		if m.taken {
			b.Write(wire.AppendTaken(nil))
		}
		io.Copy(io.Discard, b)
	}()
	return pipeLink{a, d.Node}, nil
}

// TestMuteNextHop: a relay that does not take a set-up packet counts as failed
// sooner than one that took it and does not answer, so that relays nearer to
// the builder still wait when the news comes.
func TestMuteNextHop(t *testing.T) {
	for _, taken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a, b := newLone(t), newLone(t)
			a.r.cfg.Network = mute{taken}
			start := time.Now()
			_, err := (&Builder{Network: a}).Build(context.Background(), []wire.Descriptor{a.d, b.d})
			var hop *HopError
			failed := errors.As(err, &hop) && hop.Index == 1 && errors.Is(err, ErrNoReply) == taken && errors.Is(err, ErrFailed) != taken
			if !failed {
				t.Errorf("taken %v: got %v", taken, err)
			}
			least, most := 5*time.Second, 5*time.Second
			if taken {
				least, most = 7500*time.Millisecond, 10*time.Second
			}
			if got := time.Since(start); got < least || got > most {
				t.Errorf("taken %v: known after %v, want %v to %v", taken, got, least, most)
			}
			a.r.Close()
			b.r.Close()
		})
	}
}

// TestNoReply: who took a set-up and says nothing more is told apart from who
// cannot be reached.
func TestNoReply(t *testing.T) {
	for _, taken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a := newLone(t)
			_, err := (&Builder{Network: mute{taken}}).Build(t.Context(), []wire.Descriptor{a.d})
			var hop *HopError
			if !errors.As(err, &hop) || hop.Index != 0 || errors.Is(err, ErrNoReply) != taken {
				t.Errorf("taken %v: got %v", taken, err)
			}
			a.r.Close()
		})
	}
}
