package relay_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// TestPlaceOfPatience: when a circuit falls silent, each relay is as likely to
// lose patience first: that nobody before it did does not tell a relay that the
// one before it is the builder. With the same patience for all it would.
func TestPlaceOfPatience(t *testing.T) {
	// A minute each: a descriptor lives two hours.
	first := func(circuits int, adjust func(*relay.Config)) (z float64) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var who wire.NodeID
			n, err := relaytest.New(relaytest.Config{
				Latency: 20 * time.Millisecond, Limits: relay.Limits{Creates: 1e6, PerTarget: 1e6}, Adjust: adjust,
				Ended: func(from, _ wire.NodeID, _ relaytest.End) {
					mu.Lock()
					defer mu.Unlock()
					if who.IsZero() {
						who = from
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			b := n.Builder()
			b.Quiet, b.KeepAlive = 1<<50, 1<<50
			count := make([]float64, wire.MaxHops)
			for range circuits {
				mu.Lock()
				who = wire.NodeID{}
				mu.Unlock()
				p, err := b.Build(context.Background(), n.Hops(0, 1, 2, 3, 4, 5))
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				<-p.Done()
				if took := time.Since(start); took < 40*time.Second || took > 61*time.Second {
					t.Errorf("patience was lost after %v", took)
				}
				p.Close()
				synctest.Wait()
				mu.Lock()
				for i, d := range n.Hops(0, 1, 2, 3, 4, 5) {
					count[i] += float64(bit(d.Node == who))
				}
				mu.Unlock()
			}
			even := make([]float64, wire.MaxHops)
			for i := range even {
				even[i] = 1e6 // as if it were known exactly
			}
			z = chi([][]float64{count, even})
			t.Logf("first to lose patience: %v, %.1f standard deviations", count, z)
		})
		return z
	}
	if z := first(100, nil); z > maxDeviation {
		t.Errorf("the place shows in who loses patience first: %.0f standard deviations", z)
	}
	if z := first(20, relay.LeakTimes); z <= maxDeviation {
		t.Error("with the same patience for all nothing was found: the adversary is too weak")
	}
}

// TestPlaceOfDeafness: a relay that takes nothing more, while much comes from
// before, is left as soon at all places: whoever is before it hears at once that
// the builder gave up. Else it would be left in two seconds behind the builder,
// and in fifteen and more behind any relay.
func TestPlaceOfDeafness(t *testing.T) {
	left := func(k int, adjust func(*relay.Config)) (after time.Duration, how relaytest.End) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var from, to wire.NodeID
			var at time.Time
			n, err := relaytest.New(relaytest.Config{
				Latency: 20 * time.Millisecond, Window: 4 * wire.FrameSize, Adjust: adjust,
				Far: func(int) relay.Far { return sized{} },
				Ended: func(f, o wire.NodeID, h relaytest.End) {
					mu.Lock()
					defer mu.Unlock()
					if f == from && o == to && at.IsZero() {
						at, how = time.Now(), h
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			path := []wire.NodeID{{7}}
			hops := n.Hops(0, 1, 2, 3, 4, 5)
			for _, d := range hops {
				path = append(path, d.Node)
			}
			b := &relay.Builder{Network: n.Network(path[0]), NetworkName: relaytest.Name}
			p, err := b.Build(context.Background(), hops)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			mu.Lock()
			from, to = path[k-1], path[k]
			mu.Unlock()
			for range 8 {
				go p.Ask(context.Background(), make([]byte, wire.MaxAsk))
			}
			time.Sleep(150 * time.Millisecond) // before a PING is answered, behind which the next comes later
			n.Freeze(k - 1)
			start := time.Now()
			<-p.Done()
			time.Sleep(time.Minute)
			mu.Lock()
			defer mu.Unlock()
			after = at.Sub(start)
			n.Thaw(k - 1)
		})
		return after, how
	}
	const most = 500 * time.Millisecond // of difference between places; what times tell anyway
	first, how := left(1, nil)
	t.Logf("place 1: left after %v, in way %v", first, how)
	for k := 2; k < wire.MaxHops; k++ {
		after, also := left(k, nil)
		t.Logf("place %d: left after %v, in way %v", k, after, also)
		if after > first+most || after < first-most || also != how {
			t.Errorf("place %d: left after %v, in way %v; place 1 after %v, in way %v", k, after, also, first, how)
		}
		if after, _ := left(k, relay.Deafen); after < 5*first {
			t.Errorf("place %d: left after %v by relays that do not look: the adversary is too weak", k, after)
		}
	}
}
