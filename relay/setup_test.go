package relay_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
)

// TestOneRoundTrip: a path of any length is there after one round trip over
// its links, beside the time that dialling takes.
func TestOneRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const latency = 50 * time.Millisecond
		n, err := relaytest.New(relaytest.Config{Latency: latency, Instant: true})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		for hops := 1; hops <= 6; hops++ {
			start := time.Now()
			p, err := n.Builder().Build(context.Background(), n.Hops(0, 1, 2, 3, 4, 5)[:hops])
			if err != nil {
				t.Fatal(err)
			}
			if got, want := time.Since(start), time.Duration(2*hops)*latency; got != want {
				t.Errorf("%d hops: took %v, want %v", hops, got, want)
			}
			p.Close()
		}
	})
}

// TestFrozenHop: the builder learns which hop does not answer a set-up.
func TestFrozenHop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 5 {
			n, err := relaytest.New(relaytest.Config{Latency: 20 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			n.Freeze(i)
			start := time.Now()
			var hop *relay.HopError
			_, err = n.Builder().Build(context.Background(), n.Hops(0, 1, 2, 3, 4))
			if !errors.As(err, &hop) || hop.Index != i {
				t.Errorf("hop %d frozen: got %v", i, err)
			}
			if took := time.Since(start); took > 11*time.Second {
				t.Errorf("hop %d frozen: known after %v", i, took)
			}
			n.Thaw(i)
			n.Close()
		}
	})
}

// TestPathTurns: keys are replaced while streams run both ways, and on an
// idle path.
func TestPathTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{Latency: 30 * time.Millisecond, Limits: relay.Limits{Turn: 16 * time.Second}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		b := n.Builder()
		b.Turn = 20 * time.Second
		w := &way{}
		if w.s, err = relay.NewSession(); err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		if w.pub, err = b.Build(ctx, n.Hops(5, 4, 3)); err != nil {
			t.Fatal(err)
		}
		if w.listen, err = w.pub.Listen(ctx, w.s, w.join); err != nil {
			t.Fatal(err)
		}
		if w.read, err = b.Build(ctx, n.Hops(0, 1, 2, 3)); err != nil {
			t.Fatal(err)
		}
		r, p := w.meet(t, nil)
		for i := range 120 {
			for _, c := range [][2]*relay.Conn{{r, p}, {p, r}} {
				if _, err := c[0].Write(make([]byte, 50_000)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c[1], make([]byte, 50_000)); err != nil {
					t.Fatalf("after %d s: %v", i, err)
				}
			}
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Minute)
		for name, path := range map[string]*relay.Path{"reader's": w.read, "publisher's": w.pub} {
			if err := path.Ping(ctx); err != nil {
				t.Errorf("%s path: %v", name, err)
			}
			if got := relay.Turns(path); got < 5 {
				t.Errorf("%s path turned %d times, want more", name, got)
			}
			path.Close()
		}
	})
}
