package node

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

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

func muxMsg(b []byte, typ byte, flags uint16, id, n uint32) []byte {
	return muxHead{typ, flags, id, n}.append(b)
}

// muxPair gives two ends of a connection, which are closed after the test.
func muxPair(t *testing.T, client, server network.Multiplexer) (a, b network.MuxedConn) {
	t.Helper()
	a, b = muxTCP(t, client, server)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// muxTCP gives two ends of a connection.
func muxTCP(t interface {
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

func muxStreams(t *testing.T, a, b network.MuxedConn) (x, y network.MuxedStream) {
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

// TestMuxSpeaksYamux moves bytes in pieces of all sizes between this
// multiplexer and libp2p's, both ways, more than windows hold.
func TestMuxSpeaksYamux(t *testing.T) {
	for _, c := range []struct {
		name           string
		client, server network.Multiplexer
	}{{"as client", mux{}, yamux.DefaultTransport}, {"as server", yamux.DefaultTransport, mux{}}, {"both", mux{}, mux{}}} {
		t.Run(c.name, func(t *testing.T) {
			a, b := muxPair(t, c.client, c.server)
			x, y := muxStreams(t, a, b)
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
			x, y = muxStreams(t, b, a)
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

// TestMuxFrames sends frames among other bytes: each that comes as one message
// of its own keeps its buffer, and the order holds.
func TestMuxFrames(t *testing.T) {
	a, b := muxPair(t, mux{}, mux{})
	x, y := muxStreams(t, a, b)
	s, r := x.(*muxStream), y.(*muxStream)
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

// TestMuxBoundsWindow sends more than the window: the connection ends.
func TestMuxBoundsWindow(t *testing.T) {
	x, y := net.Pipe()
	c, err := mux{}.NewConn(x, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, y)
	b := muxMsg(nil, muxWindow, muxSYN, 1, 0)
	b = muxMsg(b, muxData, 0, 1, muxFirstWindow+1)
	if _, err := y.Write(b); err != nil {
		t.Fatal(err)
	}
	<-c.(*muxConn).over
	if err := c.(*muxConn).why(); !errors.Is(err, errMux) {
		t.Errorf("got %v, want a broken protocol", err)
	}
	c.Close()
	y.Close()
}

// TestMuxBoundsBacklog opens streams that nobody accepts, and pings, without
// reading the answers.
func TestMuxBoundsBacklog(t *testing.T) {
	x, y := net.Pipe()
	c, err := mux{}.NewConn(x, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := c.(*muxConn)
	y.SetWriteDeadline(time.Now().Add(2 * time.Second))
	for i := uint32(0); ; i++ {
		b := muxMsg(nil, muxWindow, muxSYN, 2*i+1, 0)
		if _, err := y.Write(muxMsg(b, muxPing, muxSYN, 0, i)); err != nil {
			break // it takes no more
		}
	}
	m.mu.Lock()
	if got, want := len(m.streams), muxBacklog; got != want {
		t.Errorf("got %d streams, want %d", got, want)
	}
	if got, want := len(m.queue), muxQueue+2*muxHeader; got > want {
		t.Errorf("got %d bytes of answers that wait, want at most %d", got, want)
	}
	m.mu.Unlock()
	y.Close()
	c.Close()
}

// TestMuxEndsCalls resets and closes streams while calls wait on them.
func TestMuxEndsCalls(t *testing.T) {
	a, b := muxPair(t, mux{}, mux{})
	for name, end := range map[string]func(s network.MuxedStream){
		"reset":    func(s network.MuxedStream) { s.Reset() },
		"close":    func(s network.MuxedStream) { s.Close() },
		"deadline": func(s network.MuxedStream) { s.SetDeadline(time.Now()) },
	} {
		s, _ := muxStreams(t, a, b)
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
	m := a.(*muxConn)
	a.Close()
	if len(m.streams) != 0 || !a.IsClosed() {
		t.Errorf("got %d streams of a closed connection, want 0", len(m.streams))
	}
	if _, err := a.OpenStream(context.Background()); err == nil {
		t.Error("a closed connection opened a stream")
	}
}

// FuzzMux feeds a connection with anything, while its streams are read. It
// must not panic, and must end with the bytes.
func FuzzMux(f *testing.F) {
	open := muxMsg(nil, muxWindow, muxSYN, 1, 0)
	f.Add(append(muxMsg(open, muxData, muxFIN, 1, 3), 1, 2, 3))
	f.Add(muxMsg(open, muxWindow, muxRST, 1, 4))
	f.Add(muxMsg(muxMsg(nil, muxPing, muxSYN, 0, 1), muxGoAway, 0, 0, 0))
	f.Add(binary.BigEndian.AppendUint32(muxMsg(open, muxData, muxSYN|muxACK, 3, 4), 9))
	f.Fuzz(func(t *testing.T, in []byte) {
		x, y := net.Pipe()
		c, err := mux{}.NewConn(x, true, nil)
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
		if n := len(c.(*muxConn).streams); n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
}
