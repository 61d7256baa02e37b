package node

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// countConn counts the writes that reach the connection.
type countConn struct {
	net.Conn
	mu     sync.Mutex
	writes int
}

func (c *countConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes++
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func TestGatherKeepsOrder(t *testing.T) {
	a, b := net.Pipe()
	g := newGather(a)
	want := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(want)
	sent := make(chan error, 1)
	go func() {
		rng := rand.New(rand.NewPCG(1, 2))
		for p := want; len(p) > 0; {
			n := min(len(p), 1+rng.IntN(100_000))
			if m, err := g.Write(p[:n]); m != n || err != nil {
				sent <- errors.Join(errors.New("short write"), err)
				return
			}
			p = p[n:]
		}
		sent <- g.Close()
	}()
	got, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, want the %d that were written, in order", len(got), len(want))
	}
}

// TestGatherGathers writes while a first write is under way.
func TestGatherGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		c := &countConn{Conn: a}
		g := newGather(c)
		for range 1 + gatherSize/1024 {
			if _, err := g.Write(make([]byte, 1024)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		go io.Copy(io.Discard, b)
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if got, want := c.writes, 2; got != want {
			t.Errorf("got %d writes to the connection, want %d", got, want)
		}
		g.mu.Lock()
		if g.waiting != nil || g.flushing {
			t.Error("an idle connection holds a buffer or a goroutine")
		}
		g.mu.Unlock()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

// stuck gives a connection whose other end takes nothing, full to the brim.
func stuck(t *testing.T) (*gather, net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	g := newGather(a)
	if _, err := g.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	synctest.Wait() // it is being written
	if _, err := g.Write(make([]byte, gatherSize)); err != nil {
		t.Fatal(err)
	}
	return g, b
}

func TestGatherIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, b := stuck(t)
		if err := g.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if n, err := g.Write([]byte{1}); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %d, %v from a Write without room, want a passed deadline", n, err)
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("got an end after %v, want 1s", got)
		}
		if err := g.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		wrote := make(chan error, 1)
		go func() {
			_, err := g.Write([]byte{1})
			wrote <- err
		}()
		synctest.Wait()
		go io.Copy(io.Discard, b)
		if err := <-wrote; err != nil {
			t.Errorf("got %v from a Write that waited for room, want none", err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestGatherDeadlineMoves sets a deadline while a Write waits.
func TestGatherDeadlineMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := stuck(t)
		wrote := make(chan error, 1)
		go func() {
			_, err := g.Write([]byte{1})
			wrote <- err
		}()
		synctest.Wait()
		g.SetWriteDeadline(time.Now())
		if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a passed deadline", err)
		}
		g.Close()
	})
}

func TestGatherTellsErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		g := newGather(a)
		b.Close()
		if _, err := g.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := g.Write([]byte{1}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v after a failed write, want its error", err)
		}
		g.Close()
		if _, err := newClosed(t).Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v from a closed connection, want net.ErrClosed", err)
		}
	})
}

func newClosed(t *testing.T) *gather {
	t.Helper()
	a, _ := net.Pipe()
	g := newGather(a)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestGatherStalls wants an error when nothing is taken for long, and none
// while a little is.
func TestGatherStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, b := stuck(t)
		slow := make(chan struct{})
		go func() {
			defer close(slow)
			var p [1024]byte
			for range gatherSize / 2 / len(p) { // a minute and more
				time.Sleep(2 * time.Second)
				io.ReadFull(b, p[:])
			}
		}()
		<-slow
		g.mu.Lock()
		if g.err != nil {
			t.Errorf("got %v from a slow link, want none", g.err)
		}
		g.mu.Unlock()
		time.Sleep(2 * gatherStall)
		if _, err := g.Write([]byte{1}); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v from a stalled link, want a passed deadline", err)
		}
		g.Close()
	})
}

func TestGatherCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := stuck(t)
		start := time.Now()
		g.Close()
		g.Close()
		if got := time.Since(start); got != gatherClose {
			t.Errorf("got closed after %v, want %v", got, gatherClose)
		}
	})
}
