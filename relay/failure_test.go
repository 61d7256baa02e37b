package relay_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// TestTamper changes one bit of one frame, on each link and in each direction
// of a transfer: the half of the way that it lies on ends, and no wrong byte
// is read.
func TestTamper(t *testing.T) {
	type link struct{ from, to int } // -1: the reader, -2: the publisher
	for _, at := range []link{{-1, 0}, {0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, -2}, {-2, 5}, {5, 4}, {4, 3}, {3, 2}, {2, 1}, {1, 0}, {0, -1}} {
		for _, replay := range []bool{false, true} {
			var armed atomic.Bool
			var n *relaytest.Net
			var before []byte
			index := func(id wire.NodeID, other int) int {
				for i, d := range n.Hops(0, 1, 2, 3, 4, 5) {
					if d.Node == id {
						return i
					}
				}
				if other >= 4 {
					return -2
				}
				return -1
			}
			n = newNet(t, relaytest.Config{Tamper: func(from, to wire.NodeID, b []byte) {
				if !armed.Load() {
					return
				}
				a, z := index(from, 0), index(to, 0)
				a, z = index(from, z), index(to, a)
				if (link{a, z}) != at || !armed.Load() {
					return
				}
				if replay {
					if before == nil {
						before = append(before, b...)
						return
					}
					copy(b, before)
				} else {
					b[len(b)/3] ^= 8
				}
				armed.Store(false)
			}})
			w := sixRelays(t, n)
			r, p := w.meet(t, nil)
			armed.Store(true)
			go pour(p, 7, 8<<20)
			go pour(r, 7, 1<<20)
			_, err1 := io.Copy(io.Discard, p)
			_, err2 := io.Copy(io.Discard, r)
			if err1 == nil && err2 == nil {
				t.Errorf("link %v, replay %v: nobody noticed", at, replay)
			}
			half := w.read
			if at.from > 3 || at.to > 3 || at.from == -2 || at.to == -2 {
				half = w.pub
			}
			select {
			case <-half.Done():
			case <-time.After(10 * time.Second):
				t.Errorf("link %v, replay %v: the path lives on", at, replay)
			}
			n.Close()
		}
	}
}

// TestKill: when any relay dies both ends learn it, and nothing is left
// anywhere.
func TestKill(t *testing.T) {
	for i := range 6 {
		n := newNet(t, relaytest.Config{})
		w := sixRelays(t, n)
		r, p := w.meet(t, nil)
		go pour(p, 1, 64<<20)
		if _, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		n.Kill(i)
		io.Copy(io.Discard, r)
		io.Copy(io.Discard, p)
		r.Close()
		p.Close()
		if i <= 3 {
			<-w.read.Done()
		}
		if i >= 3 {
			<-w.pub.Done()
		}
		w.read.Close()
		w.pub.Close()
		for k := range 6 {
			for deadline := time.Now().Add(10 * time.Second); n.Relay(k).Stats().Circuits > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("relay %d killed: relay %d still has circuits", i, k)
				}
			}
			if got := relay.Held(n.Relay(k)); got != 0 {
				t.Errorf("relay %d killed: relay %d holds %d frames", i, k, got)
			}
		}
		n.Close()
	}
}

// TestFreeze: a relay that goes silent without closing anything is noticed by
// its path's builder in seconds.
func TestFreeze(t *testing.T) {
	for i := range 3 {
		synctest.Test(t, func(t *testing.T) {
			n, err := relaytest.New(relaytest.Config{Latency: 20 * time.Millisecond, Far: func(int) relay.Far { return echo{} }})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			p, err := n.Builder().Build(context.Background(), n.Hops(0, 1, 2))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			time.Sleep(10 * time.Minute) // idle paths live on
			if err := p.Err(); err != nil {
				t.Fatalf("an idle path died: %v", err)
			}
			n.Freeze(i)
			start := time.Now()
			if _, err := p.Ask(context.Background(), []byte("x")); !errors.Is(err, relay.ErrDead) {
				t.Errorf("relay %d: got %v, want %v", i, err, relay.ErrDead)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("relay %d: noticed after %v", i, took)
			}
			n.Thaw(i)
		})
	}
}

// TestFreezeIdle: without any use it takes a keep-alive longer.
func TestFreezeIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{Latency: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		p, err := n.Builder().Build(context.Background(), n.Hops(0, 1, 2))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		time.Sleep(time.Minute)
		n.Freeze(1)
		start := time.Now()
		<-p.Done()
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("noticed after %v", took)
		}
		for k := range 3 { // the relays' own patience frees them
			for n.Relay(k).Stats().Circuits > 0 {
				time.Sleep(time.Second)
			}
		}
		if took := time.Since(start); took > 3*time.Minute {
			t.Errorf("circuits were held for %v", took)
		}
	})
}

// TestPing: a ready path says so within its round trip, a frozen one is ended.
func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{Latency: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		start := time.Now()
		p, err := n.Builder().Build(context.Background(), n.Hops(0, 1, 2))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if got, want := time.Since(start), 900*time.Millisecond; got > want { // 3 dials and 1+2+3 round trips
			t.Errorf("built in %v, want at most %v", got, want)
		}
		start = time.Now()
		if err := p.Ping(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got, want := time.Since(start), 300*time.Millisecond; got != want {
			t.Errorf("ping took %v, want %v", got, want)
		}
		n.Freeze(2)
		if err := p.Ping(context.Background()); !errors.Is(err, relay.ErrDead) {
			t.Errorf("got %v, want %v", err, relay.ErrDead)
		}
		<-p.Done()
	})
}

// TestLatency: over links of 50 ms the windows do not slow a stream below
// what its links carry.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mb = 1_000_000
		n, err := relaytest.New(relaytest.Config{Latency: 50 * time.Millisecond, Rate: 20 * mb})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		w := sixRelays(t, n)
		r, p := w.meet(t, nil)
		defer w.read.Close()
		defer w.pub.Close()
		go pour(p, 1, 40*mb)
		start := time.Now()
		drain(t, r, 1, 40*mb)
		took := time.Since(start)
		if took > 3200*time.Millisecond {
			t.Errorf("40 MB took %v", took)
		}
		t.Logf("40 MB over six links in %v: %.1f MB/s", took, 40/took.Seconds())
		r.Close()
		p.Close()
	})
}

// TestHopError names the hop that fails.
func TestHopError(t *testing.T) {
	for i := range 4 {
		n := newNet(t, relaytest.Config{})
		n.Kill(i)
		_, err := n.Builder().Build(testContext(t), n.Hops(0, 1, 2, 3))
		var he *relay.HopError
		if !errors.As(err, &he) || he.Index != i {
			t.Errorf("hop %d dead: got %v", i, err)
		}
		n.Close()
	}
	n := newNet(t, relaytest.Config{})
	hops := n.Hops(0, 1, 2)
	forged := *hops[2].Onion
	forged[0] ^= 1 // the signature fails, here already
	hops[2].Onion = &forged
	var he *relay.HopError
	if _, err := n.Builder().Build(testContext(t), hops); !errors.As(err, &he) || he.Index != 2 || !errors.Is(err, wire.ErrBadSignature) {
		t.Errorf("forged descriptor: got %v", err)
	}
	for _, hops := range [][]wire.Descriptor{nil, n.Hops(0, 1, 2, 3, 4, 5, 0, 1, 2), n.Hops(0, 0)} {
		if _, err := n.Builder().Build(testContext(t), hops); err == nil {
			t.Errorf("%d hops: was built", len(hops))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.Freeze(1)
	go cancel()
	if _, err := n.Builder().Build(ctx, n.Hops(0, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}
