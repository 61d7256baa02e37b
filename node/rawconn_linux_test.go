//go:build !386 && !s390x

package node

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// rawPair gives two ends of a TCP connection.
func rawPair(t *testing.T) (*rawConn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r, ok := newRawConn(a).(*rawConn)
	if !ok {
		t.Fatal("a TCP connection is not taken")
	}
	t.Cleanup(func() { r.Close(); b.Close() })
	return r, b
}

// TestRawConnKeepsOrder sends more than fits into the sockets' buffers, and
// back again.
func TestRawConnKeepsOrder(t *testing.T) {
	r, b := rawPair(t)
	want := make([]byte, 24<<20)
	rand.NewChaCha8([32]byte{1}).Read(want)
	sent := make(chan error, 1)
	go func() {
		_, err := r.Write(want)
		sent <- err
	}()
	echoed := make(chan error, 1)
	go func() {
		_, err := io.CopyN(b, b, int64(len(want)))
		echoed <- errors.Join(err, b.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-sent, <-echoed); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, want the %d that were sent, in order", len(got), len(want))
	}
}

func TestRawConnDeadlines(t *testing.T) {
	r, _ := rawPair(t)
	r.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d, %v from a Read, want a passed deadline", n, err)
	}
	p := make([]byte, 64<<20)
	n, err := r.Write(p)
	if n == len(p) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d, %v from a Write after the deadline, want it to fail", n, err)
	}
	r.SetDeadline(time.Now().Add(50 * time.Millisecond))
	n, err = r.Write(p)
	if n == 0 || n == len(p) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d, %v from a Write that nobody reads, want a part and a passed deadline", n, err)
	}
}

func TestRawConnCloseEndsCalls(t *testing.T) {
	r, b := rawPair(t)
	ended := make(chan error, 2)
	go func() {
		_, err := r.Read(make([]byte, 1))
		ended <- err
	}()
	go func() {
		_, err := r.Write(make([]byte, 64<<20))
		ended <- err
	}()
	if _, err := io.ReadFull(b, make([]byte, 1)); err != nil { // the Write is under way
		t.Fatal(err)
	}
	r.Close()
	for range 2 {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want net.ErrClosed", err)
		}
	}
}

// TestRawConnTellsReset reads and writes after the other end has gone.
func TestRawConnTellsReset(t *testing.T) {
	r, b := rawPair(t)
	b.(*net.TCPConn).SetLinger(0)
	b.Close()
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("got %d, %v from a Read, want the reset", n, err)
	}
	if n, err := r.Write([]byte{1}); n != 0 || err == nil {
		t.Errorf("got %d, %v from a Write, want an error", n, err)
	}
}

func TestRawConnAllocatesNothing(t *testing.T) {
	r, b := rawPair(t)
	p := make([]byte, 1024)
	got := testing.AllocsPerRun(100, func() {
		if _, err := r.Write(p); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(b, p); err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("got %v allocations in a Write, want 0", got)
	}
	if _, ok := newRawConn(newClosed(t)).(*rawConn); ok {
		t.Error("a connection without a file descriptor was taken")
	}
}
