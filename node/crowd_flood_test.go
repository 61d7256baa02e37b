package node

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// flooding is a flood of set-ups that is under way.
type flooding struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	sent   []int // by user
}

// startFlood begins Rate circuits a second in the name of each user. By kind
// they carry a valid packet, made before; garbage; the half of a packet, or
// nothing; or all of these in turn.
func (u *users) startFlood(q crowdAsk) (*flooding, error) {
	hops, err := parseHops(q.Ways[0])
	if err != nil {
		return nil, err
	}
	f := &flooding{sent: make([]int, len(u.hosts))}
	var valid [][]byte
	if q.Kind == "valid" || q.Kind == "all" {
		for range q.N { // each is taken once
			b, _, err := wire.NewSetup(crowdNetwork, hops)
			if err != nil {
				return nil, err
			}
			valid = append(valid, b)
		}
	}
	garbage := make([]byte, wire.FrameSize)
	rand.Read(garbage)
	garbage[0] = wire.Version
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	var mu sync.Mutex
	packet := func(n int) []byte {
		kind := q.Kind
		if kind == "all" {
			kind = []string{"valid", "garbage", "half"}[n%3]
		}
		switch kind {
		case "valid":
			mu.Lock()
			defer mu.Unlock()
			if len(valid) == 0 {
				return garbage
			}
			b := valid[0]
			valid = valid[1:]
			return b
		case "garbage":
			return garbage
		}
		return garbage[:n%2*len(garbage)/2]
	}
	for i, t := range u.hosts {
		f.wg.Go(func() {
			var open []relay.Link
			defer func() {
				for _, l := range open {
					l.Reset()
				}
			}()
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			due, last := 0.0, time.Now()
			for {
				select {
				case <-ctx.Done():
					return
				case now := <-tick.C: // it drops ticks on a busy machine
					due += min(q.Rate*now.Sub(last).Seconds(), q.Rate)
					last = now
				}
				for ; due >= 1 && ctx.Err() == nil; due-- {
					l, err := neighbours{t: t}.Dial(ctx, hops[0])
					if err != nil {
						continue
					}
					f.sent[i]++
					l.SetWriteDeadline(time.Now().Add(5 * time.Second))
					l.Write(packet(f.sent[i]))
					if open = append(open, l); len(open) > 300 {
						open[0].Reset()
						open = open[1:]
					}
				}
			}
		})
	}
	return f, nil
}

func (f *flooding) end() (sent int) {
	f.cancel()
	f.wg.Wait()
	for _, n := range f.sent {
		sent += n
	}
	return sent
}

func median[T float64 | time.Duration](all []T) T {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}

// TestFloodOfSetUps: somebody begins a hundred times as many circuits as he
// may at a real node, with packets that cost it a handshake each, with
// garbage, and with halves of packets; then many neighbours do, each as many
// as he may. Others have a path and an answer in twice the time at most.
func TestFloodOfSetUps(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	creates := 3. // a second and neighbour; small, so that two cores can play the flooder too
	if *crowdSize >= 10000 {
		creates = 50 // as by default
	}
	limits := patient(relay.Limits{Creates: rate.Limit(creates)})
	limits.Hello = 5 * time.Second
	node := startCrowd(t, crowdSetup{Role: crowdNode, Limits: limits})
	ways := [][][]byte{node.ask(t, crowdAsk{Op: "descriptors"}).Relays}
	const honest = 40
	users := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: honest})
	for _, c := range []struct {
		what      string
		attackers int
		rate      float64
		kind      string
	}{
		{"one neighbour, valid packets", 1, 100 * creates, "valid"},
		{"one neighbour, all kinds", 1, 100 * creates, "all"},
		{"thirty neighbours, valid packets", 30, creates, "valid"},
	} {
		attackers := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: c.attackers})
		const tries, asks, pause = 3, 20, 40 * time.Millisecond
		var ratios []float64
		for range tries { // side by side, so that what else the machine does hits both
			measure := func() time.Duration {
				got := users.ask(t, crowdAsk{Op: "first byte", Ways: ways, N: asks, For: pause})
				if got.Failed > 0 {
					t.Errorf("%s: %d of %d others were refused: %v", c.what, got.Failed, asks, got.Why)
				}
				if len(got.Took) == 0 {
					t.Fatal("no path")
				}
				return median(got.Took)
			}
			quiet := measure()
			before := node.ask(t, crowdAsk{Op: "look"}).Use
			attackers.ask(t, crowdAsk{Op: "flood", Ways: ways, Kind: c.kind, Rate: c.rate, N: 200})
			start := time.Now()
			time.Sleep(pause * asks / 2) // until what may come in a burst has come
			flooded := measure()
			sent := attackers.ask(t, crowdAsk{Op: "calm"}).N
			passed := time.Since(start)
			after := node.ask(t, crowdAsk{Op: "look"}).Use
			t.Logf("%s: first byte %v quiet, %v flooded with %.0f a second; the node used %.0f %% of a core",
				c.what, quiet.Round(time.Microsecond), flooded.Round(time.Microsecond), float64(sent)/passed.Seconds(),
				100*(after.CPU-before.CPU).Seconds()/passed.Seconds())
			ratios = append(ratios, float64(flooded)/float64(quiet))
		}
		got := median(ratios)
		judgeRate(t, got <= 2, "%s: the time to the first byte is %.2f times as long, want at most 2", c.what, got)
	}
}
