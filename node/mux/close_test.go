package mux

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// bubbled gives a multiplexer, whose other side is bare, in a bubble; both
// are closed at the bubble's end.
func bubbled(t *testing.T) (*Conn, net.Conn) {
	t.Helper()
	x, y := net.Pipe()
	c, err := Multiplexer{}.NewConn(x, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		y.Close()
		c.Close()
	})
	return c.(*Conn), y
}

// TestEndsAllWrites: all Writes that wait for the window end with the
// stream's last one, not one of them.
func TestEndsAllWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, y := bubbled(t)
		go io.Copy(io.Discard, y)
		s, err := m.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 3)
		for range cap(ended) {
			go func() {
				_, err := s.Write(make([]byte, 2*FirstWindow))
				ended <- err
			}()
		}
		synctest.Wait()
		s.CloseWrite()
		synctest.Wait()
		if got, want := len(ended), cap(ended); got != want {
			t.Errorf("%d of %d Writes ended when the stream was closed for writing", got, want)
		}
	})
}

// TestCloseEndsWrite: a Write that waits behind another stream's, which the
// other side does not take, ends with its own stream, and nothing goes out.
func TestCloseEndsWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, y := bubbled(t)
		a, err := m.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go a.Write(make([]byte, 1000))
		synctest.Wait()
		b.SetWriteDeadline(time.Now().Add(time.Second))
		go func() {
			_, err := b.Write(make([]byte, 1000))
			ended <- err
		}()
		synctest.Wait()
		b.Close()
		synctest.Wait()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a Write of a closed stream succeeded")
			}
		default:
			t.Error("a Write goes on waiting when its stream was closed")
		}
		y.Close()
	})
}

// TestNothingBehindFIN: a Write that was under way when the stream was
// closed for writing gives an error, and its bytes do not follow the end.
func TestNothingBehindFIN(t *testing.T) {
	for name, end := range map[string]func(s *Stream){
		"closed for writing": func(s *Stream) { s.CloseWrite() },
		"reset":              func(s *Stream) { s.Reset() },
	} {
		synctest.Test(t, func(t *testing.T) {
			m, y := bubbled(t)
			x, err := m.OpenStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s := x.(*Stream)
			m.writing <- struct{}{} // somebody writes
			ended := make(chan error, 1)
			go func() {
				f := make([]byte, relay.LinkRoom+wire.FrameSize)
				ended <- s.WriteFrame(f)
			}()
			synctest.Wait()
			end(s)
			<-m.writing
			over := false
			for range 6 {
				y.SetReadDeadline(time.Now().Add(time.Second))
				var b [headSize]byte
				if _, err := io.ReadFull(y, b[:]); err != nil {
					break
				}
				h, _ := parseHead(b[:])
				if h.typ == typeData {
					if over {
						t.Errorf("%s: %d bytes came behind the end", name, h.length)
					}
					io.CopyN(io.Discard, y, int64(h.length))
				}
				over = over || h.flags&(flagFIN|flagRST) != 0
			}
			if err := <-ended; err == nil {
				t.Errorf("%s: a Write whose bytes cannot be read succeeded", name)
			}
		})
	}
}

// TestCreditWakes: a Write is woken by a window that it can use, and not by
// less or by none.
func TestCreditWakes(t *testing.T) {
	s := &Stream{writable: make(chan struct{}, 1), waiting: 1, need: wire.FrameSize}
	for _, n := range []uint32{0, 1, wire.FrameSize - 2, 1} {
		if err := s.widen(n); err != nil {
			t.Fatal(err)
		}
		if got, want := len(s.writable) > 0, s.window >= wire.FrameSize; got != want {
			t.Errorf("woken by %d bytes: %v, want %v", s.window, got, want)
		}
	}
}
