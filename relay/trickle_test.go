package relay

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// TestTrickleKeepsAlive: who gets frames so often that there is no silence to
// ask about, and so few that no credit is due, sends a sign of life all the
// same: relays end a circuit on which nothing comes from the builder's side.
func TestTrickleKeepsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLone(t)
		l.r.limits.Idle = 20 * time.Second
		b := &Builder{Network: l, KeepAlive: 5 * time.Second}
		pub, err := b.Build(t.Context(), []wire.Descriptor{l.d})
		if err != nil {
			t.Fatal(err)
		}
		defer pub.Close()
		s, _ := NewSession()
		join := [32]byte{5}
		listener, err := pub.Listen(t.Context(), s, join)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		p, err := b.Build(t.Context(), []wire.Descriptor{l.d})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		const bytes = 120
		sent := make(chan error, 1)
		go func() {
			c, err := listener.Accept(t.Context())
			for i := 0; i < bytes && err == nil; i++ {
				_, err = c.Write([]byte{1})
				time.Sleep(b.withDefaults().Quiet * 19 / 40)
			}
			if err == nil {
				err = c.CloseWrite()
			}
			sent <- err
		}()
		c, err := p.Join(t.Context(), s.Keys(), join, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if len(got) != bytes || err != nil {
			t.Errorf("got %d bytes, %v, want %d", len(got), err, bytes)
		}
		if err := <-sent; err != nil {
			t.Errorf("the session's stream: %v", err)
		}
	})
}
