package mux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"go.uber.org/goleak"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func msg(b []byte, typ byte, flags uint16, id, n uint32) []byte {
	return head{typ, flags, id, n}.append(b)
}

// pair gives two ends of a connection, which are closed after the test.
func pair(t *testing.T, client, server network.Multiplexer) (a, b network.MuxedConn) {
	t.Helper()
	a, b = overTCP(t, client, server)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// overTCP gives two ends of a connection.
func overTCP(t interface {
	Helper()
	Fatal(...any)
}, client, server network.Multiplexer) (a, b network.MuxedConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	x, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	y, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = client.NewConn(x, false, nil); err != nil {
		t.Fatal(err)
	}
	if b, err = server.NewConn(y, true, nil); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func streamsOf(t *testing.T, a, b network.MuxedConn) (x, y network.MuxedStream) {
	t.Helper()
	x, err := a.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if y, err = b.AcceptStream(); err != nil {
		t.Fatal(err)
	}
	return x, y
}

// TestSpeaksYamux moves bytes in pieces of all sizes between this
// multiplexer and libp2p's, both ways, more than windows hold.
func TestSpeaksYamux(t *testing.T) {
	for _, c := range []struct {
		name           string
		client, server network.Multiplexer
	}{{"as client", Multiplexer{}, yamux.DefaultTransport}, {"as server", yamux.DefaultTransport, Multiplexer{}}, {"both", Multiplexer{}, Multiplexer{}}} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t, c.client, c.server)
			x, y := streamsOf(t, a, b)
			want := make([]byte, 12<<20)
			rand.NewChaCha8([32]byte{3}).Read(want)
			fail := make(chan error, 2)
			for i, s := range []network.MuxedStream{x, y} {
				go func() {
					rng := rand.New(rand.NewPCG(1, uint64(i)))
					for p := want; len(p) > 0; {
						n := min(len(p), 1+rng.IntN(100_000))
						if _, err := s.Write(p[:n]); err != nil {
							fail <- err
							return
						}
						p = p[n:]
					}
					fail <- s.CloseWrite()
				}()
			}
			type result struct {
				b   []byte
				err error
			}
			read := make(chan result, 2)
			for _, s := range []network.MuxedStream{x, y} {
				go func() {
					b, err := io.ReadAll(s)
					read <- result{b, err}
				}()
			}
			for range 2 {
				if err := <-fail; err != nil {
					t.Error(err)
				}
				if r := <-read; r.err != nil || !bytes.Equal(r.b, want) {
					t.Errorf("got %d bytes and %v, want the %d that were written", len(r.b), r.err, len(want))
				}
			}
			// A reset and its code arrive.
			x, y = streamsOf(t, b, a)
			x.ResetWithError(7)
			var e *network.StreamError
			if _, err := y.Read(make([]byte, 1)); !errors.As(err, &e) || e.ErrorCode != 7 || !e.Remote {
				t.Errorf("got %v, want the other side's reset with code 7", err)
			}
			if err := a.CloseWithError(9); err != nil {
				t.Error(err)
			}
			var ce *network.ConnError
			if _, err := b.AcceptStream(); !errors.As(err, &ce) || ce.ErrorCode != 9 {
				t.Errorf("got %v, want the connection's end with code 9", err)
			}
		})
	}
}

// TestFrames sends frames among other bytes: each that comes as one message
// of its own keeps its buffer, and the order holds.
func TestFrames(t *testing.T) {
	a, b := pair(t, Multiplexer{}, Multiplexer{})
	x, y := streamsOf(t, a, b)
	s, r := x.(*Stream), y.(*Stream)
	var want bytes.Buffer
	const frames = 600 // more than the first windows
	sent := make(chan error, 1)
	pieces := make([][]byte, 0, 2*frames)
	rng := rand.New(rand.NewPCG(4, 4))
	src := rand.NewChaCha8([32]byte{5})
	for i := range frames {
		if i%7 == 3 {
			p := make([]byte, 1+rng.IntN(3000))
			src.Read(p)
			pieces = append(pieces, p)
			want.Write(p)
		}
		p := make([]byte, relay.LinkRoom+wire.FrameSize)
		src.Read(p)
		pieces = append(pieces, p)
		want.Write(p[relay.LinkRoom:])
	}
	go func() {
		for _, p := range pieces {
			var err error
			if len(p) > wire.FrameSize {
				err = s.WriteFrame(p)
			} else {
				_, err = s.Write(p)
			}
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- s.CloseWrite()
	}()
	var got bytes.Buffer
	whole := 0
	buf := make([]byte, 5000)
	for {
		f, err := r.ReadFrame()
		if f != nil {
			whole++
			got.Write(f.Bytes())
			f.Free()
			continue
		}
		n := 0
		if err == nil {
			n, err = r.Read(buf)
			got.Write(buf[:n])
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Fatalf("got %d bytes, want %d, in order", got.Len(), want.Len())
	}
	if whole < frames*9/10 {
		t.Errorf("got %d of %d frames in their buffers", whole, frames)
	}
}

// TestBoundsWindow sends more than the window: the connection ends.
func TestBoundsWindow(t *testing.T) {
	x, y := net.Pipe()
	c, err := Multiplexer{}.NewConn(x, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, y)
	b := msg(nil, typeWindow, flagSYN, 1, 0)
	b = msg(b, typeData, 0, 1, FirstWindow+1)
	if _, err := y.Write(b); err != nil {
		t.Fatal(err)
	}
	<-c.(*Conn).over
	if err := c.(*Conn).why(); !errors.Is(err, errProtocol) {
		t.Errorf("got %v, want a broken protocol", err)
	}
	c.Close()
	y.Close()
}

// TestBoundsBacklog opens streams that nobody accepts, and pings, without
// reading the answers.
func TestBoundsBacklog(t *testing.T) {
	x, y := net.Pipe()
	c, err := Multiplexer{}.NewConn(x, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := c.(*Conn)
	y.SetWriteDeadline(time.Now().Add(2 * time.Second))
	for i := uint32(0); ; i++ {
		b := msg(nil, typeWindow, flagSYN, 2*i+1, 0)
		if _, err := y.Write(msg(b, typePing, flagSYN, 0, i)); err != nil {
			break // it takes no more
		}
	}
	m.mu.Lock()
	if got, want := len(m.streams), backlog; got != want {
		t.Errorf("got %d streams, want %d", got, want)
	}
	if got, want := len(m.queue), queueMost+2*headSize; got > want {
		t.Errorf("got %d bytes of answers that wait, want at most %d", got, want)
	}
	m.mu.Unlock()
	y.Close()
	c.Close()
}

// TestEndsCalls resets and closes streams while calls wait on them.
func TestEndsCalls(t *testing.T) {
	a, b := pair(t, Multiplexer{}, Multiplexer{})
	for name, end := range map[string]func(s network.MuxedStream){
		"reset":    func(s network.MuxedStream) { s.Reset() },
		"close":    func(s network.MuxedStream) { s.Close() },
		"deadline": func(s network.MuxedStream) { s.SetDeadline(time.Now()) },
	} {
		s, _ := streamsOf(t, a, b)
		ended := make(chan error, 2)
		go func() {
			_, err := s.Read(make([]byte, 1))
			ended <- err
		}()
		go func() {
			_, err := s.Write(make([]byte, 64<<20))
			ended <- err
		}()
		end(s)
		for range 2 {
			err := <-ended
			if err == nil {
				t.Errorf("%s: a call went on without an error", name)
			}
			if name == "deadline" && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want a passed deadline", err)
			}
		}
	}
	m := a.(*Conn)
	a.Close()
	if len(m.streams) != 0 || !a.IsClosed() {
		t.Errorf("got %d streams of a closed connection, want 0", len(m.streams))
	}
	if _, err := a.OpenStream(context.Background()); err == nil {
		t.Error("a closed connection opened a stream")
	}
}

// FuzzConn feeds a connection with anything, while its streams are read. It
// must not panic, and must end with the bytes.
func FuzzConn(f *testing.F) {
	open := msg(nil, typeWindow, flagSYN, 1, 0)
	f.Add(append(msg(open, typeData, flagFIN, 1, 3), 1, 2, 3))
	f.Add(msg(open, typeWindow, flagRST, 1, 4))
	f.Add(msg(msg(nil, typePing, flagSYN, 0, 1), typeGoAway, 0, 0, 0))
	f.Add(binary.BigEndian.AppendUint32(msg(open, typeData, flagSYN|flagACK, 3, 4), 9))
	f.Fuzz(func(t *testing.T, in []byte) {
		x, y := net.Pipe()
		c, err := Multiplexer{}.NewConn(x, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, y)
		accepted := make(chan struct{})
		go func() {
			defer close(accepted)
			for {
				s, err := c.AcceptStream()
				if err != nil {
					return
				}
				go func() {
					io.Copy(io.Discard, s)
					s.Close()
				}()
			}
		}()
		y.Write(in)
		y.Close()
		<-accepted
		c.Close()
		if n := len(c.(*Conn).streams); n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
}
