package relay_test

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// flood begins times as many circuits a second at a relay as one neighbour
// may, in one neighbour's name, until stop. Half of them say nothing, half
// send a handshake that is not one.
func flood(n *relaytest.Net, i int, perSecond float64) (stop func() (sent int)) {
	var id wire.NodeID
	rand.Read(id[:])
	network, hop := n.Network(id), n.Hops(i)[0]
	frame := make([]byte, wire.FrameSize)
	rand.Read(frame)
	frame[0] = wire.Version
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	sent := 0
	wg.Go(func() {
		const step = 5 * time.Millisecond
		tick := time.NewTicker(step)
		defer tick.Stop()
		due, last := 0.0, time.Now()
		var open []relay.Link
		defer func() {
			for _, l := range open {
				l.Reset()
			}
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := time.Now() // the ticker drops ticks on a busy machine
			due += perSecond * now.Sub(last).Seconds()
			for last = now; due >= 1; due-- {
				l, err := network.Dial(ctx, hop)
				if err != nil {
					return
				}
				if sent++; sent%2 == 0 {
					l.Write(frame)
				}
				if open = append(open, l); len(open) > 1000 {
					open[0].Reset()
					open = open[1:]
				}
			}
		}
	})
	return func() int {
		cancel()
		wg.Wait()
		return sent
	}
}

// TestFlood: somebody who begins a hundred times as many circuits as he may
// at most doubles the time until others have a path and an answer over it.
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const creates = 5 // a second and neighbour; small, so that the flooder itself does not use up the machine
	n := newNet(t, relaytest.Config{
		Relays: 16,
		Far:    func(int) relay.Far { return echo{} },
		Limits: relay.Limits{Creates: creates},
	})
	k := 0
	firstByte := func() time.Duration {
		k++ // these neighbours have buckets, too
		start := time.Now()
		p := build(t, n, 1+k%15, 0)
		defer p.Close()
		if _, err := p.Ask(testContext(t), []byte("x")); err != nil {
			t.Fatal(err)
		}
		return time.Since(start)
	}
	median := func() time.Duration {
		var all []time.Duration
		for range 25 {
			all = append(all, firstByte())
			time.Sleep(10 * time.Millisecond)
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	firstByte()
	var ratios []float64
	for range 5 { // side by side, so that what else the machine does hits both
		quiet := median()
		stop := flood(n, 0, 100*creates)
		start := time.Now()
		flooded := median()
		rate := float64(stop()) / time.Since(start).Seconds()
		if rate < 50*creates {
			t.Logf("the machine is too slow for the flood: %.0f a second", rate)
		}
		t.Logf("first byte: %v quiet, %v flooded with %.0f a second", quiet, flooded, rate)
		ratios = append(ratios, float64(flooded)/float64(quiet))
	}
	slices.Sort(ratios)
	if got := ratios[len(ratios)/2]; got > 2 {
		t.Errorf("a flood multiplies the time to the first byte by %.2f, want at most 2", got)
	}
}
