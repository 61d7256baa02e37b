package relay_test

import (
	"flag"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

var many = flag.Int("held", 300, "circuits in the tests of memory; 10000 takes minutes")

// roomy lets one relay have so many circuits from few neighbours, for ever.
func roomy(n int) relay.Limits {
	return relay.Limits{
		Circuits: n + 1, PerNeighbour: n + 1, Known: 2 * n, Creates: 1e6, PerTarget: 1e6,
		Idle: time.Hour, Stall: time.Hour, Turn: time.Hour,
	}
}

// used gives the bytes of heap and stacks.
func used() int64 {
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestIdleCircuits: what an idle circuit costs a relay in the middle, heap and
// stacks, with its share of both links in memory.
func TestIdleCircuits(t *testing.T) {
	n := *many
	perCircuit := func(hops ...int) (bytes int64) {
		synctest.Test(t, func(t *testing.T) {
			net, err := relaytest.New(relaytest.Config{Limits: roomy(n)})
			if err != nil {
				t.Fatal(err)
			}
			defer net.Close()
			b := net.Builder()
			b.KeepAlive, b.Dead = time.Hour, time.Hour
			before := used()
			var ps []*relay.Path
			for range n {
				p, err := b.Build(t.Context(), net.Hops(hops...))
				if err != nil {
					t.Fatal(err)
				}
				ps = append(ps, p)
			}
			synctest.Wait()
			bytes = (used() - before) / int64(n)
			for _, p := range ps {
				p.Close()
			}
		})
		return bytes
	}
	short, long := perCircuit(0), perCircuit(0, 1)
	middle := long - short
	t.Logf("%d circuits: %d bytes each with builder and one relay, %d for a relay more", n, short, middle)
	if most := int64(40 << 10); middle > most {
		t.Errorf("an idle circuit costs a relay %d bytes, want at most %d", middle, most)
	}
	if most := int64(1 << 30 / 10000); long > most {
		t.Errorf("an idle circuit costs two relays and the builder %d bytes: 10000 do not fit into 1 GiB", long)
	}
}

// TestStalledCircuits: however many circuits stand still, the pool holds its
// bound, and what moves goes on.
func TestStalledCircuits(t *testing.T) {
	n := *many
	limits := roomy(n)
	room := int64(8192)
	if n < 10000 {
		room = int64(n) * 8 / 10
	}
	limits.Pool = room * wire.FrameSize
	synctest.Test(t, func(t *testing.T) {
		net, err := relaytest.New(relaytest.Config{
			Window: wire.FrameSize, Limits: limits, Far: func(int) relay.Far { return echo{} },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer net.Close()
		live := newStallable(t, net)
		defer live.Close()
		before := used()
		var ps []stallable
		for i := range n {
			p := newStallable(t, net)
			ps = append(ps, p)
			p.stall()
			time.Sleep(time.Millisecond)
			if got := relay.Held(net.Relay(0)); got > room {
				t.Fatalf("%d stalled: %d frames, want at most %d", i+1, got, room)
			}
		}
		if _, err := live.Ask(t.Context(), make([]byte, 100_000)); err != nil {
			t.Errorf("the circuit that moves: %v", err)
		}
		alive := net.Relay(0).Stats().Circuits - 1
		t.Logf("%d stalled: %d live, %d frames held of %d; %d MiB in all nodes and links", n, alive, relay.Held(net.Relay(0)), room, (used()-before)>>20)
		if least := int(room) * 9 / 10; alive < least {
			t.Errorf("%d circuits live, want at least %d", alive, least)
		}
		for _, p := range ps {
			p.let()
			p.Close()
		}
	})
}
