package relay

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// silent is the adversary as a relay: it takes set-ups and keeps the reply
// back, to learn from when and how it is left who the one before is.
type silent struct {
	taken bool
	left  chan leaving
}

type leaving struct {
	after time.Duration
	clean bool
	bytes int64 // that came before
}

func (s silent) Dial(_ context.Context, d wire.Descriptor) (Link, error) {
	a, b := pipe(d.Node, wire.NodeID{1})
	go func() {
		io.CopyN(io.Discard, b, wire.FrameSize)
		start := time.Now()
		if s.taken {
			b.Write(wire.AppendTaken(nil))
		}
		n, err := io.Copy(io.Discard, b)
		s.left <- leaving{time.Since(start), err == nil, n}
		b.Close()
	}()
	return a, nil
}

// TestSilenceTellsNoPlace: who takes a set-up, or does not, and says nothing
// more is left in the same way and within the same time whether the one before
// is the builder or a relay, and whether the builder waits or changes its mind.
func TestSilenceTellsNoPlace(t *testing.T) {
	const tries = 40
	for _, c := range []struct {
		name        string
		taken       bool
		cancel      time.Duration // 0: the builder waits
		least, most time.Duration
		narrow      time.Duration // 0: times differ from circuit to circuit, at all places over nearly all of this
	}{
		{"not taken", false, 0, 5 * time.Second, 5 * time.Second, 0},
		{"taken", true, 0, 7500 * time.Millisecond, 10 * time.Second, time.Second},
		{"taken, given up", true, 3 * time.Second, 3 * time.Second, 3 * time.Second, 0},
		{"not taken, given up", false, 3 * time.Second, 3 * time.Second, 3 * time.Second, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := silent{c.taken, make(chan leaving, 1)}
				ls := chain(t, 3)
				end := newLone(t) // its keys, but nobody asks it
				for place := 1; place <= 4; place++ {
					var all []time.Duration
					for range tries {
						var hops []wire.Descriptor
						for _, l := range ls[:place-1] {
							hops = append(hops, l.d)
						}
						hops = append(hops, end.d)
						b := &Builder{Network: s}
						if place > 1 {
							b.Network = ls[0]
							ls[place-2].r.cfg.Network = s
						}
						ctx, cancel := context.WithCancel(context.Background())
						if c.cancel > 0 {
							time.AfterFunc(c.cancel, cancel)
						}
						if _, err := b.Build(ctx, hops); err == nil {
							t.Fatal("built")
						}
						cancel()
						got := <-s.left
						if got.after < c.least || got.after > c.most || got.clean || got.bytes != 0 {
							t.Errorf("place %d: left after %v, cleanly %v, with %d bytes; want %v to %v, reset", place, got.after, got.clean, got.bytes, c.least, c.most)
						}
						all = append(all, got.after)
						synctest.Wait()
						if place > 1 && place < 4 {
							ls[place-2].r.cfg.Network = ls[place-1]
						}
						if len(all)%20 == 0 {
							time.Sleep(time.Minute) // buckets
						}
					}
					if spread := slices.Max(all) - slices.Min(all); spread < c.narrow {
						t.Errorf("place %d: all within %v, want more than %v", place, spread, c.narrow)
					}
				}
				for _, l := range append(ls, end) {
					l.r.Close()
				}
			})
		})
	}
}

// TestBytesBeforeReply: nothing may come before the reply, and who sends
// something then loses the circuit at once.
func TestBytesBeforeReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := silent{true, make(chan leaving, 1)}
		a, b := newLone(t), newLone(t)
		a.r.cfg.Network = s
		packet, _, err := wire.NewSetup("main", []wire.Descriptor{a.d, b.d})
		if err != nil {
			t.Fatal(err)
		}
		l, _ := a.Dial(context.Background(), a.d)
		l.Write(packet)
		io.CopyN(io.Discard, l, wire.FrameSize) // TAKEN
		synctest.Wait()
		l.Write([]byte{1})
		if got := <-s.left; got.after != 0 {
			t.Errorf("the circuit ended after %v", got.after)
		}
		if _, err := l.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		a.r.Close()
		b.r.Close()
	})
}
