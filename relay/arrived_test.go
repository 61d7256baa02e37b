package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

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
	p.hear = &Listener{p: p, queue: make(chan *Conn, 4*maxOpened), rate: rate.NewLimiter(rate.Inf, 0), done: make(chan struct{})}
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

// TestGatewayOpensTooOften: a session does not work for a gateway that opens
// more streams than one of ours lets through.
func TestGatewayOpensTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		a := newLone(t)
		a.r.limits.Joins, a.r.limits.Opens = 1e6, 1e6
		s, _ := NewSession()
		pub := a.path(t)
		l, err := pub.Listen(ctx, s, [32]byte{sharedJoin})
		if err != nil {
			t.Fatal(err)
		}
		worked := 0
		go func() {
			for {
				c, err := l.Accept(ctx)
				if err != nil {
					return
				}
				worked++
				c.Close()
			}
		}()
		synctest.Wait()
		a.r.mu.Lock()
		for c := range a.r.circuits { // it knows nothing of these streams
			c.far.mu.Lock()
			c.far.budget = 1 << 20
			c.far.mu.Unlock()
		}
		a.r.mu.Unlock()
		const seconds = 4
		id := uint32(2)
		for range seconds * 400 {
			_, m, err := wire.NewGreeting("main", &s.keys, nil)
			if err != nil {
				t.Fatal(err)
			}
			f := newFrame()
			f.h, f.data = wire.Header{Cmd: wire.CmdOpen, Stream: id}, m
			if err := pub.opened(f); err != nil {
				t.Fatal(err)
			}
			id += 2
			time.Sleep(time.Second / 400)
		}
		synctest.Wait()
		if most := greetsBurst + greetsEach*seconds; worked > most || worked < most-greetsEach {
			t.Errorf("%d first messages opened in %d s, want %d", worked, seconds, most)
		}
		pub.Close()
		l.Close()
		a.r.Close()
	})
}
