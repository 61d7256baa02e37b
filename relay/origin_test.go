package relay

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"wanderfs/relay/wire"
)

// located is a link from somewhere.
type located struct {
	Link
	net netip.Prefix
}

func (l located) Origin() netip.Prefix { return l.net }

// come opens a link in a neighbour's name from a /16, and has it taken if it
// is to be more than half open.
func (l *lone) come(t *testing.T, id, from byte, whole bool) Link {
	t.Helper()
	a, b := pipe(l.d.Node, wire.NodeID{id})
	go l.r.Serve(located{b, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, from, 0, 0}), 16)})
	t.Cleanup(func() { a.Close() })
	if whole {
		packet, _, err := wire.NewSetup("main", []wire.Descriptor{l.d})
		if err != nil {
			t.Fatal(err)
		}
		deliver(a, packet, time.Now().Add(time.Second), time.Now().Add(time.Second))
	}
	synctest.Wait()
	time.Sleep(time.Millisecond) // nobody comes at the same time as another
	return a
}

func living(links []Link) (n int) {
	for _, a := range links {
		a.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := a.Read(make([]byte, 1))
		if timeout, ok := err.(interface{ Timeout() bool }); ok && timeout.Timeout() {
			n++
		}
	}
	return n
}

// TestOnePlaceFillsRelay: who has many NodeIDs in one place, each with a
// circuit, keeps nobody out who comes from elsewhere, and gets no more for it:
// in the table of neighbours, of whole circuits and of half-open ones.
func TestOnePlaceFillsRelay(t *testing.T) {
	const room = 8
	for _, c := range []struct {
		name  string
		whole bool
		per   int // circuits of each of the attacker's neighbours
		limit func(*Limits)
	}{
		{"neighbours", true, 1, func(m *Limits) { m.Known = room }},
		{"neighbours half open", false, 1, func(m *Limits) { m.Known = room }},
		{"circuits", true, 1, func(m *Limits) { m.Circuits = room }},
		{"circuits of few neighbours", true, 4, func(m *Limits) { m.Circuits = room }},
		{"half open", false, 1, func(m *Limits) { m.HalfOpen = room }},
		{"both tables", false, 1, func(m *Limits) { m.HalfOpen, m.Circuits = room, room }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLone(t)
				defer l.r.Close()
				c.limit(&l.r.limits)
				l.r.limits.Idle, l.r.limits.Hello = time.Hour, time.Hour
				early := []Link{l.come(t, 200, 1, c.whole)} // an honest one where the attacker is
				var bad []Link
				flood := func(first int) {
					for i := range 2 * room {
						bad = append(bad, l.come(t, byte(first+i/c.per), 1, c.whole))
					}
				}
				flood(1)
				if got := living(bad) + living(early); got != room {
					t.Fatalf("the attacker and his neighbour hold %d places, want %d", got, room)
				}
				var others []Link
				for i := range byte(5) {
					others = append(others, l.come(t, 100+i, 2+i, c.whole))
				}
				if got := living(others); got != 5 {
					t.Errorf("%d of 5 newcomers from elsewhere were taken", got)
				}
				flood(30)
				if got := living(others); got != 5 {
					t.Errorf("%d of 5 newcomers from elsewhere are left", got)
				}
				if got := living(bad) + living(early); got != room-5 {
					t.Errorf("the attacker's place holds %d, want %d", got, room-5)
				}
				if c.whole && living(early) != 1 {
					t.Error("who had been there before the attacker had to go")
				}
				l.r.mu.Lock()
				defer l.r.mu.Unlock()
				sum := 0
				for _, o := range l.r.origins {
					sum += o.circuits
				}
				if sum != l.r.counted || sum != room || len(l.r.circuits) != room {
					t.Errorf("counts %d and %d of %d circuits, want %d", sum, l.r.counted, len(l.r.circuits), room)
				}
			})
		})
	}
}

// TestOriginsForgotten: nothing is left of places whose neighbours have gone.
func TestOriginsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLone(t)
		defer l.r.Close()
		for i := range byte(10) {
			l.come(t, i, i/2, i%2 == 0).Close()
		}
		time.Sleep(time.Minute)
		l.r.mu.Lock()
		defer l.r.mu.Unlock()
		if len(l.r.origins) != 0 || len(l.r.neighbours) != 0 || l.r.counted != 0 || l.r.opening != 0 {
			t.Errorf("left: %d places, %d neighbours, %d circuits, %d half open", len(l.r.origins), len(l.r.neighbours), l.r.counted, l.r.opening)
		}
	})
}

// TestReplaysNeverFull: however many set-ups come, all that are computed while
// an onion key lives are remembered, and a set-up that was made for a key in
// its first hour is taken until its end. SPEC.md §14
func TestReplaysNeverFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Limits{SetUps: 0.05}.WithDefaults()
		keys, err := newOnionKeys(time.Now, limits.replays())
		if err != nil {
			t.Fatal(err)
		}
		w := workers{free: 1, pace: limits.setUps()}
		nb := &neighbour{from: &origin{}}
		try := func(k *wire.PublicKey) error {
			p, _, err := wire.NewSetup("main", []wire.Descriptor{{Onion: k}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = keys.open("main", wire.NodeID{}, p)
			return err
		}
		most := 0
		for began := time.Now(); time.Since(began) < 5*time.Hour; {
			if err := w.enter(t.Context(), nb); err != nil {
				t.Fatal(err)
			}
			keys.turn()
			old := keys.keys[len(keys.keys)-1] // of all that are opened, the one that lives least
			if err := try(old.key.Public()); err != nil {
				t.Fatalf("a set-up under a key of %v: %v", time.Since(old.made), err)
			}
			w.leave()
			most = max(most, len(old.seen.seen))
		}
		if want := limits.replays(); most > want || most < want*9/10 {
			t.Errorf("%d were remembered at most, room was for %d", most, want)
		}
	})
}

// TestPace: handshakes of all neighbours together keep to the rate, and those
// of many in one place share one turn with one elsewhere.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := workers{free: 4, pace: rate.NewLimiter(10, 1)}
		here, there := &origin{}, &origin{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		done := map[*origin]int{}
		began := time.Now()
		for i := range 40 {
			nb := &neighbour{from: here}
			if i%4 == 0 {
				nb.from = there
			}
			go func() {
				if w.enter(ctx, nb) == nil {
					w.mu.Lock()
					done[nb.from]++
					w.mu.Unlock()
					w.leave()
				}
			}()
			synctest.Wait()
		}
		time.Sleep(1950 * time.Millisecond)
		w.mu.Lock()
		if a, b := done[here], done[there]; a+b != 20 || a-b > 1 || b-a > 1 {
			t.Errorf("after two seconds %d and %d were computed, want 10 each", a, b)
		}
		w.mu.Unlock()
		time.Sleep(time.Minute - time.Since(began))
	})
}
