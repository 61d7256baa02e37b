package relay_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// crowd is how many readers of which kind share one standing path.
type crowd struct {
	reading int // take all that comes
	asleep  int // joined, and read nothing
	stuck   int // read, but their first link takes nothing more
}

const (
	crowdRate  = 16 << 20  // bytes a second of every link
	crowdBytes = 256 << 10 // for each who reads
	crowdPool  = 16 << 20  // bytes of a relay's pool
)

// measured is what a crowd got, and what it cost.
type measured struct {
	slowest float64 // bytes a second, of those who read
	held    int64   // bytes of frames held by one relay, the most at any time
	stalled int     // streams that were still open at the end, of those who stall
}

// share lets a crowd join one session at one gateway. Those who stall do so
// before the others begin. Time is virtual, so the rates are exact.
func (c crowd) share(t *testing.T, pool int64) (m measured) {
	n, err := relaytest.New(relaytest.Config{
		Relays: 9, Rate: crowdRate, Latency: 5 * time.Millisecond, Window: 256 << 10,
		Limits: relay.Limits{Pool: pool},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	w := standing(t, n, 8, 7, 6)
	hops := [][]int{{0, 1, 2, 6}, {3, 4, 5, 6}, {1, 3, 0, 6}, {4, 2, 5, 6}}
	join := func(i int, network func(relay.Network) relay.Network) (r, p *relay.Conn) {
		b := n.Builder()
		b.Dead = time.Hour // who stalls is not to blame his path
		b.Network = network(b.Network)
		path, err := b.Build(testContext(t), n.Hops(hops[i%len(hops)]...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { path.Close() })
		w.read = path
		r, p = w.meet(t, nil)
		time.Sleep(100 * time.Millisecond) // joins are limited, a second
		return r, p
	}
	plain := func(n relay.Network) relay.Network { return n }
	ended := make(chan struct{}, c.asleep+c.stuck)
	fill := func(p *relay.Conn) {
		go func() {
			for _, err := p.Write(make([]byte, 64<<10)); err == nil; _, err = p.Write(make([]byte, 64<<10)) {
			}
			ended <- struct{}{}
		}()
	}
	for i := range c.asleep {
		_, p := join(i, plain)
		fill(p)
	}
	for i := range c.stuck {
		s := &stuckNetwork{}
		r, p := join(i, func(n relay.Network) relay.Network { s.Network = n; return s })
		s.stick()
		defer s.let()
		go io.Copy(io.Discard, r)
		fill(p)
	}
	look := func() {
		for i := range 9 {
			m.held = max(m.held, relay.Held(n.Relay(i))*wire.FrameSize)
		}
	}
	for range 100 { // until all windows are full
		time.Sleep(50 * time.Millisecond)
		look()
	}

	type stream struct{ r, p *relay.Conn }
	var streams []stream
	for i := range c.reading {
		r, p := join(i, plain)
		streams = append(streams, stream{r, p})
	}
	rates := make(chan float64, c.reading)
	for i, s := range streams {
		go pour(s.p, uint64(i), crowdBytes)
		go func() {
			start := time.Now()
			drain(t, s.r, uint64(i), crowdBytes)
			rates <- crowdBytes / time.Since(start).Seconds()
		}()
	}
	for range c.reading {
		for done := false; !done; {
			select {
			case rate := <-rates:
				if m.slowest == 0 || rate < m.slowest {
					m.slowest = rate
				}
				done = true
			case <-time.After(20 * time.Millisecond):
				look()
			}
		}
	}
	synctest.Wait()
	m.stalled = c.asleep + c.stuck - len(ended)
	w.pub.Close()
	return m
}

// TestCrowd: fifty readers share one standing path, and ten of them stall:
// asleep, or with a link that takes nothing. The others keep their rate, and
// no relay holds more than its pool.
func TestCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("carries hundreds of MiB")
	}
	t.Parallel()
	measure := func(c crowd, pool int64) (m measured) {
		synctest.Test(t, func(t *testing.T) { m = c.share(t, pool) })
		t.Logf("%+v: %+v", c, m)
		return m
	}
	alone := measure(crowd{reading: 40}, crowdPool)
	const slack = 64 * wire.FrameSize // frames between one look and the next
	for _, c := range []crowd{{reading: 40, asleep: 10}, {reading: 40, stuck: 10}, {reading: 40, asleep: 5, stuck: 5}} {
		m := measure(c, crowdPool)
		if m.slowest < 0.8*alone.slowest {
			t.Errorf("%+v: the slowest has %.2f of its rate", c, m.slowest/alone.slowest)
		}
		if m.held > crowdPool+slack {
			t.Errorf("%+v: a relay held %d bytes", c, m.held)
		}
		if c.stuck == 0 && m.stalled != c.asleep {
			t.Errorf("%d of %d sleepers were put out, though they cost no relay anything", c.asleep-m.stalled, c.asleep)
		}
	}
	// What is held against the bounds can break them: greedy readers take
	// their part, and without a bound the stuck ones hold more.
	if m := measure(crowd{reading: 80}, crowdPool); m.slowest > 0.6*alone.slowest {
		t.Errorf("with twice as many readers the slowest has %.2f of its rate: the path is no bottleneck", m.slowest/alone.slowest)
	}
	if m := measure(crowd{reading: 1, stuck: 10}, 1<<30); m.held <= crowdPool+slack {
		t.Errorf("without a bound stuck readers hold %d bytes: the bound is never reached", m.held)
	}
}
