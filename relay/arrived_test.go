package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"wanderfs/relay/wire"
)

// TestReadersFillNoMemory: readers who send megabytes that the session does not
// read, on ever more streams, lose their streams. One that asks for little goes
// on all the while.
func TestReadersFillNoMemory(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	r, err := New(Config{Identity: key, Limits: Limits{Joins: 1e6, Opens: 1e6, Rate: 1 << 40}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	a := &lone{r: r, key: key}
	if err := a.renew(); err != nil {
		t.Fatal(err)
	}
	s, _ := NewSession()
	join := [32]byte{1}
	pub := a.path(t)
	l, err := pub.Listen(t.Context(), s, join)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan *Conn, maxOpened)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept(ctx)
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	meet := func() (reader, session *Conn) {
		t.Helper()
		c, err := a.path(t).Join(t.Context(), s.Keys(), join, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c, <-accepted
	}
	small, end := meet()
	for range maxArrived/wire.InitialWindow + 4 { // nobody reads what they send
		c, _ := meet()
		b := make([]byte, wire.InitialWindow*wire.RecordSize)
		c.SetWriteDeadline(time.Now().Add(20 * time.Second))
		c.Write(b) // it may be reset under it
	}
	if got, most := pub.arrived.Load(), int64(maxArrived+maxOpened*fairArrived); got < maxArrived || got > most {
		t.Errorf("%d cells wait, want %d to %d", got, maxArrived, most)
	}
	for i := range byte(10) {
		if _, err := small.Write([]byte{i}); err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := end.Read(b[:]); err != nil || b[0] != i {
			t.Fatalf("the one that asks for little: %v", err)
		}
	}
	if pub.Err() != nil {
		t.Error("the session's path has ended")
	}
}

// TestGatewayOpensNoEnd: a gateway that opens streams without end finds a bound
// at the session.
func TestGatewayOpensNoEnd(t *testing.T) {
	p := newPath((&Builder{}).withDefaults(), []wire.Descriptor{{}})
	defer p.cancel(ErrClosed)
	p.hear = &Listener{p: p, queue: make(chan *Conn, 4*maxOpened), done: make(chan struct{})}
	p.refusing.Store(100) // nothing is written in this test
	for i := range 2 * maxOpened {
		f := newFrame()
		f.h = wire.Header{Cmd: wire.CmdOpen, Stream: uint32(2 * (i + 1))}
		f.data = make([]byte, wire.HelloSize)
		if err := p.opened(f); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(p.streams); got != maxOpened {
		t.Errorf("%d streams are open, want %d", got, maxOpened)
	}
}
