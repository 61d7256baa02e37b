package relay_test

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
)

const up = 2 << 20 // bytes a second that the suspect may send

// clog lets relay 0 run a session that somebody reads from without end, and
// gives the bytes a second that arrive, first alone and then while the relay
// carries all that others can push through it; and what it then carries.
func clog(t *testing.T, shares *relay.Shares) (alone, loaded, carried float64) {
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{
			Relays: 9, Latency: 10 * time.Millisecond,
			Shares: func(i int) *relay.Shares {
				if i == 0 {
					return shares
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		ctx := t.Context()
		patient := func(b *relay.Builder) *relay.Builder {
			b.Dead = time.Hour
			return b
		}
		publish := func(b *relay.Builder, hops ...int) *way {
			w := &way{}
			if w.s, err = relay.NewSession(); err != nil {
				t.Fatal(err)
			}
			if w.pub, err = patient(b).Build(ctx, n.Hops(hops...)); err != nil {
				t.Fatal(err)
			}
			if w.listen, err = w.pub.Listen(ctx, w.s, w.join); err != nil {
				t.Fatal(err)
			}
			return w
		}
		read := func(w *way, hops ...int) *relay.Conn {
			if w.read, err = patient(n.Builder()).Build(ctx, n.Hops(hops...)); err != nil {
				t.Fatal(err)
			}
			r, p := w.meet(t, nil)
			go func() {
				for b := make([]byte, 64<<10); ; {
					if _, err := p.Write(b); err != nil {
						return
					}
				}
			}()
			return r
		}
		// flow reads all that comes; rate tells how fast it came, once all has settled.
		flow := func(r *relay.Conn) *atomic.Int64 {
			total := new(atomic.Int64)
			go func() {
				for b := make([]byte, 16<<10); ; {
					k, err := r.Read(b)
					if total.Add(int64(k)); err != nil {
						return
					}
				}
			}()
			return total
		}
		rate := func(total *atomic.Int64) float64 {
			time.Sleep(10 * time.Second)
			before, start := total.Load(), time.Now()
			time.Sleep(20 * time.Second)
			return float64(total.Load()-before) / time.Since(start).Seconds()
		}

		suspect := publish(n.OwnBuilder(0), 1, 2)
		session := flow(read(suspect, 3, 4, 2))
		alone = rate(session)
		var ways []*way
		for range 8 {
			w := publish(n.Builder(), 0, 5, 6)
			flow(read(w, 7, 8, 6))
			ways = append(ways, w)
		}
		before := n.Relay(0).Stats().Bytes
		start := time.Now()
		loaded = rate(session)
		carried = float64(n.Relay(0).Stats().Bytes-before) / time.Since(start).Seconds()
		for _, w := range append(ways, suspect) {
			w.read.Close()
			w.pub.Close()
		}
	})
	return alone, loaded, carried
}

// TestClogging: who loads a suspect's relay does not see it in the session
// that it runs; with one bucket for both he would.
func TestClogging(t *testing.T) {
	change := func(s *relay.Shares) float64 {
		alone, loaded, carried := clog(t, s)
		t.Logf("session: %.0f KiB/s alone, %.0f KiB/s loaded; relay carries %.0f KiB/s", alone/1024, loaded/1024, carried/1024)
		if carried < 0.4*up {
			t.Errorf("the relay was not loaded: %.0f bytes a second", carried)
		}
		return math.Abs(loaded-alone) / alone
	}
	if got := change(relay.NewShares(up, true)); got > 0.05 {
		t.Errorf("two shares: the session's rate changed by %.1f %%, want at most 5 %%", 100*got)
	}
	if got := change(relay.OneShare(up)); got < 0.05 {
		t.Errorf("one share: the session's rate changed by %.1f %%: the test sees nothing", 100*got)
	}
}

func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := func(n int, bs ...*relay.Budget) time.Duration {
			start := time.Now()
			done := make(chan struct{})
			for _, b := range bs {
				go func() {
					for range n >> 14 {
						b.Wait(context.Background(), 1<<14)
					}
					done <- struct{}{}
				}()
			}
			for range bs {
				<-done
			}
			return time.Since(start).Round(time.Second)
		}
		s := relay.NewShares(8<<20, true) // 4 and 4, a session 3
		for name, c := range map[string]struct {
			got, want time.Duration
		}{
			"a session":           {took(30<<20, s.Session()), 10 * time.Second},
			"two sessions":        {took(20<<20, s.Session(), s.Session()), 10 * time.Second},
			"others":              {took(40<<20, s.Relayed()), 10 * time.Second},
			"two others":          {took(20<<20, s.Relayed(), s.Relayed()), 10 * time.Second},
			"a lonely session":    {took(60<<20, relay.NewShares(8<<20, false).Session()), 10 * time.Second},
			"nothing was said":    {took(60<<20, relay.NewShares(0, true).Session()), 0},
			"less than one frame": {took(1<<20, relay.NewShares(8<<10, true).Relayed()), 240 * time.Second},
		} {
			if c.got < c.want-c.want/10 || c.got > c.want+c.want/10 {
				t.Errorf("%s: took %v, want %v", name, c.got, c.want)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Relayed().Wait(ctx, 1<<30); err == nil {
			t.Error("waits although it is over")
		}
	})
}
