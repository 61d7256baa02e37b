package relay_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// echo answers with the request, "fail" with an error, "wait" with its
// context's end.
type echo struct{}

func (echo) Answer(ctx context.Context, req []byte) ([]byte, error) {
	switch string(req) {
	case "fail":
		return nil, errors.New("not told")
	case "long":
		return make([]byte, wire.MaxAsk+1), nil
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return req, nil
}

func TestAsk(t *testing.T) {
	n := newNet(t, relaytest.Config{Relays: 3, Far: func(int) relay.Far { return echo{} }})
	p := build(t, n, 0, 1, 2)
	ctx := testContext(t)
	var wg sync.WaitGroup
	for _, size := range []int{0, 1, wire.MaxData - 5, wire.MaxData - 4, wire.MaxData, 100_000, wire.MaxAsk} {
		wg.Go(func() {
			req := make([]byte, size)
			rand.Read(req)
			for range 4 {
				got, err := p.Ask(ctx, req)
				if err != nil {
					t.Errorf("%d bytes: %v", size, err)
				} else if !bytes.Equal(got, req) {
					t.Errorf("%d bytes: another answer", size)
				}
			}
		})
	}
	wg.Wait()
	for _, req := range []string{"fail", "long"} {
		if _, err := p.Ask(ctx, []byte(req)); !errors.Is(err, relay.ErrFailed) {
			t.Errorf("%s: got %v, want %v", req, err, relay.ErrFailed)
		}
	}
	if _, err := p.Ask(ctx, make([]byte, wire.MaxAsk+1)); err == nil {
		t.Error("too long a request was sent")
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := p.Ask(short, []byte("wait")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: got %v", err)
	}
	if _, err := p.Ask(ctx, []byte("still alive")); err != nil {
		t.Errorf("after one was cancelled: %v", err)
	}
}

func TestAskNobody(t *testing.T) {
	n := newNet(t, relaytest.Config{Relays: 1})
	p := build(t, n, 0)
	if _, err := p.Ask(testContext(t), []byte("hello")); !errors.Is(err, relay.ErrRefused) {
		t.Errorf("got %v, want %v", err, relay.ErrRefused)
	}
}

// TestAskEnds: a path that ends answers what is out.
func TestAskEnds(t *testing.T) {
	n := newNet(t, relaytest.Config{Relays: 3, Far: func(int) relay.Far { return echo{} }})
	p := build(t, n, 0, 1, 2)
	errs := make(chan error, 1)
	go func() {
		_, err := p.Ask(context.Background(), []byte("wait"))
		errs <- err
	}()
	if _, err := p.Ask(testContext(t), nil); err != nil {
		t.Fatal(err)
	}
	n.Kill(1)
	if err := <-errs; err == nil {
		t.Error("an answer came from nowhere")
	}
	<-p.Done()
	if p.Err() == nil {
		t.Error("Err is nil after Done")
	}
}
