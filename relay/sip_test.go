package relay_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
)

// slowWay is sixRelays over links of 20 ms that hold little, with builders that
// wait for long.
func slowWay(t *testing.T) (n *relaytest.Net, w *way) {
	n, err := relaytest.New(relaytest.Config{Latency: 20 * time.Millisecond, Window: 4 << 14})
	if err != nil {
		t.Fatal(err)
	}
	w = &way{s: newSession(t)}
	path := func(hops ...int) *relay.Path {
		b := n.Builder()
		b.Dead = time.Minute
		p, err := b.Build(context.Background(), n.Hops(hops...))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	w.pub, w.read = path(5, 4, 3), path(0, 1, 2, 3)
	if w.listen, err = w.pub.Listen(context.Background(), w.s, w.join); err != nil {
		t.Fatal(err)
	}
	return n, w
}

// TestSip: what is read while the next relay takes nothing is part of the next
// frame, however long that lasts and however often it happens.
func TestSip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w := slowWay(t)
		defer n.Close()
		defer w.pub.Close()
		defer w.read.Close()
		r, p := w.meet(t, nil)
		const size = 4 << 20
		errs := make(chan error, 1)
		go func() { errs <- pour(r, 5, size) }()
		go func() {
			for _, stop := range []time.Duration{40, 60, 140, 1000, 8000} {
				n.Freeze(2)
				time.Sleep(stop * time.Millisecond)
				n.Thaw(2)
				time.Sleep(20 * time.Millisecond)
			}
		}()
		drain(t, p, 5, size)
		if err := <-errs; err != nil {
			t.Error(err)
		}
	})
}

// TestCloseDelivers: a path that is closed right behind a stream's end has
// carried all of it.
func TestCloseDelivers(t *testing.T) {
	for _, reader := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			n, w := slowWay(t)
			defer n.Close()
			from, to := w.meet(t, nil)
			path := w.read
			if !reader {
				from, to, path = to, from, w.pub
			}
			const size = 1 << 20
			got := make(chan int64)
			go func() {
				n, err := io.Copy(io.Discard, to)
				if err != nil {
					t.Errorf("from the reader %v: %v", reader, err)
				}
				got <- n
			}()
			if err := pour(from, 9, size); err != nil {
				t.Fatal(err)
			}
			path.Close()
			if got := <-got; got != size {
				t.Errorf("from the reader %v: got %d bytes, want %d", reader, got, size)
			}
			w.read.Close()
			w.pub.Close()
		})
	}
}
