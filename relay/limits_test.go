package relay_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// tryBuild builds until it fails, at most max paths.
func tryBuild(t *testing.T, n *relaytest.Net, b *relay.Builder, max int, hops ...int) (ps []*relay.Path) {
	t.Helper()
	for range max {
		p, err := b.Build(testContext(t), n.Hops(hops...))
		if err != nil {
			break
		}
		ps = append(ps, p)
		t.Cleanup(func() { p.Close() })
	}
	return ps
}

func TestLimitCircuits(t *testing.T) {
	n := newNet(t, relaytest.Config{Limits: relay.Limits{Circuits: 5}})
	b := n.Builder()
	ps := tryBuild(t, n, b, 10, 0, 1)
	if got, want := len(ps), 5; got != want {
		t.Errorf("got %d circuits, want %d", got, want)
	}
	ps[0].Close()
	for n.Relay(0).Stats().Circuits == 5 {
		time.Sleep(time.Millisecond)
	}
	if got, want := len(tryBuild(t, n, b, 10, 0)), 1; got != want {
		t.Errorf("after one was closed: got %d more, want %d", got, want)
	}
}

func TestLimitNeighbour(t *testing.T) {
	n := newNet(t, relaytest.Config{Limits: relay.Limits{PerNeighbour: 3}})
	if got, want := len(tryBuild(t, n, n.Builder(), 10, 0)), 3; got != want {
		t.Errorf("got %d circuits, want %d", got, want)
	}
	if got, want := len(tryBuild(t, n, n.Builder(), 10, 0)), 3; got != want {
		t.Errorf("another neighbour: got %d circuits, want %d", got, want)
	}
}

func TestLimitRates(t *testing.T) {
	n := newNet(t, relaytest.Config{Limits: relay.Limits{Creates: 0.5, PerTarget: 1e6}})
	if got, want := len(tryBuild(t, n, n.Builder(), 10, 0)), 4; got != want {
		t.Errorf("creates: got %d circuits, want %d", got, want)
	}
	n = newNet(t, relaytest.Config{Limits: relay.Limits{PerTarget: 0.5, Creates: 1e6}})
	if got, want := len(tryBuild(t, n, n.Builder(), 10, 0, 1)), 4; got != want {
		t.Errorf("extensions: got %d circuits, want %d", got, want)
	}
	if got, want := len(tryBuild(t, n, n.Builder(), 10, 0, 2)), 4; got != want {
		t.Errorf("another target: got %d circuits, want %d", got, want)
	}
}

func TestLimitJoins(t *testing.T) {
	n := newNet(t, relaytest.Config{Limits: relay.Limits{Joins: 0.5}})
	w := standing(t, n, 5, 4, 3)
	b := n.Builder()
	b.MaxEffort = -1
	var err error
	if w.read, err = b.Build(testContext(t), n.Hops(0, 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	defer w.read.Close()
	joined := 0
	go func() {
		for {
			c, err := w.listen.Accept(context.Background())
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	for range 10 {
		c, err := w.read.Join(testContext(t), w.s.Keys(), w.join, nil)
		if err == nil {
			joined++
			c.Close()
		} else if !errors.Is(err, relay.ErrRefused) {
			t.Fatal(err)
		}
	}
	if got, want := joined, 2; got != want {
		t.Errorf("got %d joins, want %d", got, want)
	}
	w.pub.Close()
}

// TestLimitOpens: one neighbour opens streams at its rate; another is not
// touched by that.
func TestLimitOpens(t *testing.T) {
	for name, c := range map[string]struct {
		limits relay.Limits
		want   int
	}{
		"rate": {relay.Limits{Opens: 0.5}, 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, err := relaytest.New(relaytest.Config{Limits: c.limits})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			w := standing(t, n, 5, 4, 3)
			go func() {
				for {
					if _, err := w.listen.Accept(context.Background()); err != nil {
						return
					}
				}
			}()
			for _, hops := range [][]int{{0, 3}, {1, 3}} {
				p := build(t, n, hops...)
				joined := 0
				for range 6 {
					c, err := p.Join(t.Context(), w.s.Keys(), w.join, nil)
					if errors.Is(err, relay.ErrRefused) {
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					joined++
				}
				p.Close()
				synctest.Wait() // its streams count for the session's neighbour as well
				if got := joined; got != c.want {
					t.Errorf("%s: got %d streams, want %d", name, got, c.want)
				}
			}
			w.pub.Close()
		})
	}
}

// TestLimitQueries: one neighbour's requests are refused beyond its rate; the
// circuit goes on, and so do others.
func TestLimitQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{Far: func(int) relay.Far { return echo{} }, Limits: relay.Limits{Queries: 0.5}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		p, q := build(t, n, 0, 2), build(t, n, 1, 2)
		for _, c := range []struct {
			p    *relay.Path
			want int
		}{{p, 4}, {q, 4}} {
			answered := 0
			for range 10 {
				_, err := c.p.Ask(t.Context(), make([]byte, 100_000))
				if err == nil {
					answered++
				} else if !errors.Is(err, relay.ErrRefused) {
					t.Fatal(err)
				}
			}
			if got := answered; got != c.want {
				t.Errorf("got %d answers, want %d", got, c.want)
			}
		}
		time.Sleep(2 * time.Second)
		if _, err := p.Ask(t.Context(), nil); err != nil {
			t.Errorf("after a pause: %v", err)
		}
		p.Close()
		q.Close()
	})
}

// TestLimitRate: a neighbour's circuits together stay below their rate.
func TestLimitRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{Limits: relay.Limits{Rate: 4 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		w := sixRelays(t, n)
		r, p := w.meet(t, nil)
		go pour(p, 1, 8<<20)
		start := time.Now()
		drain(t, r, 1, 8<<20)
		if took := time.Since(start); took < 1700*time.Millisecond || took > 3*time.Second {
			t.Errorf("8 MiB at 4 MiB a second took %v", took)
		}
		w.read.Close()
		w.pub.Close()
	})
}

// TestHalfOpen: who dials and says nothing is put out, and meanwhile only so
// many can do that.
func TestHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{Limits: relay.Limits{HalfOpen: 3}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		var id wire.NodeID
		rand.Read(id[:])
		for range 5 {
			l, err := n.Network(id).Dial(context.Background(), n.Hops(0)[0])
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
		}
		synctest.Wait()
		if got, want := n.Relay(0).Stats().Circuits, 3; got != want {
			t.Errorf("got %d half-open circuits, want %d", got, want)
		}
		time.Sleep(11 * time.Second)
		if got, want := n.Relay(0).Stats().Circuits, 0; got != want {
			t.Errorf("later: got %d half-open circuits, want %d", got, want)
		}
	})
}

// TestQueueBound: a gateway holds no more than its bound; the stream that has
// stood still for longest goes first.
func TestQueueBound(t *testing.T) {
	const bound = 3 << 20
	n := newNet(t, relaytest.Config{Window: 64 << 10, Limits: relay.Limits{Pool: bound}})
	w := standing(t, n, 5, 4, 3)
	// This reader's link is stuck, so that all waits at the gateway.
	b := n.Builder()
	stuck := &stuckNetwork{Network: b.Network}
	b.Network = stuck
	b.Dead = time.Hour
	p, err := b.Build(testContext(t), n.Hops(0, 1, 2, 3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stuck.let(); p.Close() })
	w.read = p
	_, ps := w.meet(t, nil)
	stuck.stick()
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = ps.Write(make([]byte, 1<<20))
		}
		ended <- err
	}()
	if err := <-ended; !errors.Is(err, relay.ErrReset) {
		t.Errorf("got %v, want %v", err, relay.ErrReset)
	}
	if got, want := relay.Held(n.Relay(3)), int64(bound/wire.FrameSize+16); got > want {
		t.Errorf("%d frames wait, want at most %d", got, want)
	}
	w.read = build(t, n, 0, 1, 2, 3) // others go on
	r, ps := w.meet(t, nil)
	go pour(ps, 1, 1<<20)
	drain(t, r, 1, 1<<20)
}

// stuckNetwork gives links whose reading can be stopped.
type stuckNetwork struct {
	relay.Network
	gate chan chan struct{}
	open chan struct{}
}

func (s *stuckNetwork) Dial(ctx context.Context, to wire.Descriptor) (relay.Link, error) {
	l, err := s.Network.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	s.gate = make(chan chan struct{}, 1)
	return &stuckLink{l, s}, nil
}

func (s *stuckNetwork) stick() { s.open = make(chan struct{}); s.gate <- s.open }
func (s *stuckNetwork) let() {
	if s.open != nil {
		close(s.open)
	}
}

type stuckLink struct {
	relay.Link
	s *stuckNetwork
}

func (l *stuckLink) Read(b []byte) (int, error) {
	select {
	case open := <-l.s.gate:
		<-open
	default:
	}
	return l.Link.Read(b)
}

// TestStuckWrite: a neighbour that takes nothing does not hold a relay for
// ever.
func TestStuckWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{Window: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		w := sixRelays(t, n)
		r, p := w.meet(t, nil)
		go pour(p, 1, 64<<20)
		io.ReadFull(r, make([]byte, 1<<20))
		n.Freeze(1)
		<-w.read.Done()
		time.Sleep(30 * time.Second)
		for _, i := range []int{2, 3} {
			if got := n.Relay(i).Stats().Circuits; i == 2 && got != 0 || got > 1 {
				t.Errorf("relay %d still has %d circuits", i, got)
			}
			if got := relay.Held(n.Relay(i)); got != 0 {
				t.Errorf("relay %d still holds %d frames", i, got)
			}
		}
		n.Thaw(1)
		w.read.Close()
		w.pub.Close()
	})
}

// TestClose: a relay that is closed leaves nothing, and takes nothing more.
func TestClose(t *testing.T) {
	n := newNet(t, relaytest.Config{Far: func(int) relay.Far { return echo{} }})
	p := build(t, n, 0, 1, 2)
	go p.Ask(context.Background(), []byte("wait"))
	n.Relay(2).Close()
	n.Relay(2).Close()
	<-p.Done()
	if got := n.Relay(2).Stats().Circuits; got != 0 {
		t.Errorf("got %d circuits after Close", got)
	}
	if _, err := n.Builder().Build(testContext(t), n.Hops(2)); err == nil {
		t.Error("a closed relay takes circuits")
	}
}
