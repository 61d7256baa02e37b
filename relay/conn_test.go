package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

func TestHalfClose(t *testing.T) {
	n := newNet(t, relaytest.Config{})
	r, p := sixRelays(t, n).meet(t, nil)
	r.Write([]byte("question"))
	r.CloseWrite()
	got, err := io.ReadAll(p)
	if err != nil || string(got) != "question" {
		t.Fatalf("got %q and %v", got, err)
	}
	if _, err := r.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write after CloseWrite: got %v", err)
	}
	p.Write([]byte("answer"))
	if err := p.Close(); err != nil { // clean: the end was read
		t.Fatal(err)
	}
	got, err = io.ReadAll(r)
	if err != nil || string(got) != "answer" {
		t.Fatalf("got %q and %v", got, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	n := newNet(t, relaytest.Config{})
	r, p := sixRelays(t, n).meet(t, nil)
	r.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: got %v", err)
	}
	r.SetReadDeadline(time.Time{})
	go p.Write([]byte("a"))
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Errorf("read without deadline: %v", err)
	}
	p.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	var err error
	for b := make([]byte, 1<<20); err == nil; {
		_, err = p.Write(b) // until the window is full
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: got %v", err)
	}
}

// TestTruncation: a stream that was not ended by its writer does not end
// cleanly, whoever cut it.
func TestTruncation(t *testing.T) {
	for i := range 6 {
		n := newNet(t, relaytest.Config{})
		r, p := sixRelays(t, n).meet(t, nil)
		go p.Write(make([]byte, 1<<20))
		if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		n.Kill(i)
		if _, err := io.Copy(io.Discard, r); err == nil {
			t.Errorf("relay %d killed: a clean end", i)
		}
		if _, err := io.Copy(io.Discard, p); err == nil {
			t.Errorf("relay %d killed: a clean end for the publisher", i)
		}
		n.Close()
	}
}

// TestResetUnblocks: closing early frees the other side's writer.
func TestResetUnblocks(t *testing.T) {
	n := newNet(t, relaytest.Config{})
	r, p := sixRelays(t, n).meet(t, nil)
	errs := make(chan error, 1)
	go func() {
		for {
			if _, err := p.Write(make([]byte, 1<<20)); err != nil {
				errs <- err
				return
			}
		}
	}()
	if _, err := io.ReadFull(r, make([]byte, 2<<20)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := <-errs; !errors.Is(err, relay.ErrReset) {
		t.Errorf("got %v, want %v", err, relay.ErrReset)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("read after Close: got %v", err)
	}
}

// TestSlowReader: one who does not read stalls neither another reader on the
// same standing path nor the standing path itself.
func TestSlowReader(t *testing.T) {
	n := newNet(t, relaytest.Config{Relays: 8})
	w := standing(t, n, 5, 4, 3)
	w.read = build(t, n, 0, 1, 2, 3)
	slow, ps := w.meet(t, nil)
	stalled := make(chan error, 1)
	go func() {
		var err error
		for b := make([]byte, 1<<20); err == nil; {
			_, err = ps.Write(b)
		}
		stalled <- err
	}()
	w.read = build(t, n, 6, 7, 0, 3)
	r, p := w.meet(t, nil)
	go pour(p, 3, 32<<20)
	drain(t, r, 3, 32<<20)
	select {
	case err := <-stalled:
		t.Errorf("the slow stream ended: %v", err)
	default:
	}
	slow.Close()
	if err := <-stalled; err == nil {
		t.Error("writer to a closed reader had no error")
	}
}

func TestManyStreams(t *testing.T) {
	n := newNet(t, relaytest.Config{Limits: fast})
	w := sixRelays(t, n)
	for i := range 20 {
		first := bytes.Repeat([]byte{byte(i)}, 1000*i)
		r, p := w.meet(t, first[:min(len(first), wire.MaxFirst)])
		if !bytes.Equal(p.First(), first[:min(len(first), wire.MaxFirst)]) {
			t.Errorf("stream %d: other first bytes", i)
		}
		go pour(p, uint64(i), 200_000)
		go pour(r, uint64(i), 100)
		drain(t, r, uint64(i), 200_000)
		drain(t, p, uint64(i), 100)
		r.Close()
		p.Close()
	}
}

func TestJoinRefused(t *testing.T) {
	n := newNet(t, relaytest.Config{})
	w := sixRelays(t, n)
	ctx := testContext(t)
	wrong := w.join
	wrong[31] ^= 1
	if _, err := w.read.Join(ctx, w.s.Keys(), wrong, nil); !errors.Is(err, relay.ErrRefused) {
		t.Errorf("wrong secret: got %v", err)
	}
	other, _ := relay.NewSession()
	if _, err := w.read.Join(ctx, other.Keys(), w.join, nil); !errors.Is(err, relay.ErrRefused) {
		t.Errorf("unknown session: got %v", err)
	}
	elsewhere := build(t, n, 0, 1, 2)
	if _, err := elsewhere.Join(ctx, w.s.Keys(), w.join, nil); !errors.Is(err, relay.ErrRefused) {
		t.Errorf("another gateway: got %v", err)
	}
	r, _ := w.meet(t, nil) // the path has survived all that
	r.Close()
	w.pub.Close()
	for {
		c, err := w.read.Join(ctx, w.s.Keys(), w.join, nil)
		if errors.Is(err, relay.ErrRefused) {
			break
		}
		if err == nil {
			c.Close()
		}
		if ctx.Err() != nil {
			t.Fatal("the session is still there")
		}
	}
}

func TestListenTwice(t *testing.T) {
	n := newNet(t, relaytest.Config{})
	w := standing(t, n, 5, 4, 3)
	if _, err := w.pub.Listen(testContext(t), w.s, w.join); err == nil {
		t.Error("a path listens twice")
	}
	// A session that listens anew elsewhere on the same gateway is found there.
	again := build(t, n, 0, 1, 3)
	l, err := again.Listen(testContext(t), w.s, w.join)
	if err != nil {
		t.Fatal(err)
	}
	w.pub.Close()
	w.listen, w.read = l, build(t, n, 2, 1, 0, 3)
	r, p := w.meet(t, nil)
	r.Close()
	p.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(context.Background()); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("Accept after Close: got %v", err)
	}
}
