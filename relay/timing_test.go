package relay_test

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// TestTiming measures what the protocol does not hide: how well a relay finds
// its place from times alone. Links take 50 ms on average, 10 to 90; nothing
// else takes any time, so that this is the most that can be told. It fails
// when the figures in SPEC.md §12 are not true any more.
//
//	SETUP in .. REPLY out             2 x the links behind
//	REPLY out .. next forward frame   2 x the links before
func TestTiming(t *testing.T) {
	const circuits, hops = 300, wire.MaxHops
	const latency = 50 * time.Millisecond
	type event struct {
		from, to wire.NodeID
		at       time.Time
	}
	right := map[string]int{}
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var all []event
		n, err := relaytest.New(relaytest.Config{
			Latency: latency, Spread: 0.8, Instant: true, Limits: relay.Limits{Creates: 1e6, PerTarget: 1e6},
			Far: func(int) relay.Far { return sized{} },
			Tamper: func(from, to wire.NodeID, _ []byte) {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, event{from, to, time.Now()})
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		builder := wire.NodeID{1}
		b := &relay.Builder{Network: n.Network(builder), NetworkName: relaytest.Name, Quiet: 1 << 40, KeepAlive: 1 << 40} // no PINGs
		path := []wire.NodeID{builder}
		for _, d := range n.Hops(0, 1, 2, 3, 4, 5) {
			path = append(path, d.Node)
		}
		for range circuits {
			all = nil
			p, err := b.Build(context.Background(), n.Hops(0, 1, 2, 3, 4, 5))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Ask(context.Background(), make([]byte, 2)); err != nil {
				t.Fatal(err)
			}
			// when gives the time of the i-th frame from one relay to another.
			when := func(from, to, i int) time.Time {
				for _, e := range all {
					if e.from == path[from] && e.to == path[to] {
						if i == 0 {
							return e.at
						}
						i--
					}
				}
				t.Fatal("no such frame")
				return time.Time{}
			}
			for k := 1; k < hops; k++ {
				behind := when(k, k-1, 1).Sub(when(k, k-1, 0)) // TAKEN out, as SETUP came in; REPLY out
				before := when(k, k+1, 1).Sub(when(k, k-1, 1))
				// A relay knows how far its neighbours are.
				toNext := when(k+1, k, 0).Sub(when(k, k+1, 0)) * 2
				toPrev := when(k, k-1, 0).Sub(when(k-1, k, 0)) * 2
				guess := int(math.Round(float64(before) / float64(2*latency)))
				right["links before"] += bit(guess == k)
				guess = int(math.Round(float64(behind) / float64(2*latency)))
				right["links behind"] += bit(guess == hops-k)
				right["neighbour is the builder"] += bit((before-toPrev < latency/5) == (k == 1))
				right["next is the far end"] += bit((behind-toNext < latency/5) == (k == hops-1))
			}
			p.Close()
		}
	})
	for name, want := range map[string][2]float64{
		"links before": {0.3, 0.9}, "links behind": {0.3, 0.9}, "neighbour is the builder": {0.99, 1}, "next is the far end": {0.99, 1},
	} {
		got := float64(right[name]) / (circuits * (hops - 1))
		t.Logf("%s: right in %.0f %% of cases", name, 100*got)
		if got < want[0] || got > want[1] {
			t.Errorf("%s: right in %.2f of cases, SPEC.md says %.2f to %.2f", name, got, want[0], want[1])
		}
	}
}
