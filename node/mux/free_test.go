package mux

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// TestFreesAll: streams of both sides are written, read and left half read,
// and end in every way, in any order, at last with the connection. Nothing
// counts, is reserved, opens or runs then.
func TestFreesAll(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
			var room [2]countingRoom
			var scope [2]countingScope
			var conns [2]*Conn
			x, y := net.Pipe()
			for i, c := range []net.Conn{x, y} {
				scope[i].free.Store(1 << 40)
				m, err := Multiplexer{}.NewConn(c, i == 1, &scope[i])
				if err != nil {
					t.Fatal(err)
				}
				conns[i] = m.(*Conn)
			}
			var wg sync.WaitGroup
			use := func(i int, s *Stream, seed uint64) {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				s.Count(&room[i])
				if rng.IntN(2) == 0 {
					s.Open()
				}
				s.SetDeadline(time.Now().Add(time.Duration(1+rng.IntN(5)) * time.Second))
				writes := rng.IntN(40)
				wg.Go(func() {
					f := make([]byte, relay.LinkRoom+wire.FrameSize)
					for range writes {
						s.WriteFrame(f)
						s.Write(f[:100])
					}
				})
				ends := []func(){
					func() { s.CloseWrite() }, func() { s.CloseRead() }, func() { s.Close() }, func() { s.Reset() },
					func() { s.SetDeadline(time.Now()) }, func() { io.CopyN(io.Discard, s, 100_000) },
					func() {
						if b, _ := s.ReadFrame(); b != nil {
							b.Free()
						}
					}, func() { s.SetDeadline(time.Time{}) },
				}
				n := 1 + rng.IntN(4)
				var order []int
				for range n {
					order = append(order, rng.IntN(len(ends)))
				}
				bear := rng.IntN(2) == 0
				wg.Go(func() {
					for _, k := range order {
						time.Sleep(time.Duration(k) * time.Millisecond) // virtual
						ends[k]()
					}
					if bear { // until the connection ends
						<-conns[i].over
					}
					s.Reset() // every user does in the end
				})
			}
			for i, m := range conns {
				wg.Go(func() {
					for n := uint64(0); ; n++ {
						s, err := m.AcceptStream()
						if err != nil {
							return
						}
						use(i, s.(*Stream), seed<<8+n)
					}
				})
				wg.Go(func() {
					for n := range uint64(60) {
						s, err := m.OpenStream(context.Background())
						if err != nil {
							return
						}
						use(i, s.(*Stream), seed<<16+n)
					}
				})
			}
			time.Sleep(10 * time.Second) // virtual: most have ended
			conns[seed%2].CloseWithError(network.ConnErrorCode(seed % 3))
			wg.Wait()
			for i, m := range conns {
				m.Close()
				if n := room[i].n.Load(); n != 0 {
					t.Errorf("seed %d: %d buffers count", seed, n)
				}
				if len(m.streams) != 0 || m.opening != 0 {
					t.Errorf("seed %d: %d streams, %d that open", seed, len(m.streams), m.opening)
				}
				if got := scope[i].free.Load(); got != 1<<40 || scope[i].spans.Load() != 0 {
					t.Errorf("seed %d: %d bytes reserved in %d spans", seed, 1<<40-got, scope[i].spans.Load())
				}
			}
		})
	}
}

// TestStalledReader: a stream whose reader stands still, its window full,
// keeps no other one on the connection waiting, in either direction.
func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe()
		a, err := Multiplexer{}.NewConn(x, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b, err := Multiplexer{}.NewConn(y, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for range 4 {
			s, r := streamsOf(t, a, b)
			for _, w := range []network.MuxedStream{s, r} {
				go w.Write(make([]byte, 2*FirstWindow)) // until the connection ends
			}
		}
		synctest.Wait() // all windows are full
		s, r := streamsOf(t, b, a)
		const n = 8 * FirstWindow
		done := make(chan error, 4)
		for _, e := range []network.MuxedStream{s, r} {
			go func() {
				_, err := e.Write(make([]byte, n))
				done <- err
			}()
			go func() {
				_, err := io.CopyN(io.Discard, e, n)
				done <- err
			}()
		}
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestStalledPeer: who stops reading the connection in the middle is left
// within the time of a write; all that waits ends, and all is given back.
func TestStalledPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scope := &countingScope{}
		scope.free.Store(1 << 40)
		x, y := net.Pipe()
		c, err := Multiplexer{}.NewConn(x, true, scope)
		if err != nil {
			t.Fatal(err)
		}
		defer y.Close()
		m := c.(*Conn)
		const streams = 50
		ended := make(chan error, 3*streams)
		var room countingRoom
		begun := time.Now()
		go func() {
			var b []byte
			for i := range uint32(streams) { // each is written to, and half read
				b = msg(b, typeWindow, flagSYN, 2*i+1, 0)
				b = append(msg(b, typeData, 0, 2*i+1, 20_000), make([]byte, 20_000)...)
			}
			y.Write(b)
		}()
		for range streams {
			s, err := m.AcceptStream()
			if err != nil {
				t.Fatal(err)
			}
			s.(*Stream).Count(&room)
			go func() {
				_, err := s.Write(make([]byte, 1000))
				ended <- err
			}()
			go func() {
				f := make([]byte, relay.LinkRoom+wire.FrameSize)
				ended <- s.(*Stream).WriteFrame(f)
			}()
			go func() {
				_, err := io.Copy(io.Discard, s)
				ended <- err
			}()
		}
		for range cap(ended) {
			if err := <-ended; err == nil {
				t.Error("a call on a dead connection succeeded")
			} else if errors.Is(err, errTimeout) {
				t.Errorf("got %v, want the connection's end", err)
			}
		}
		if got := time.Since(begun); got > stallMost {
			t.Errorf("it took %v, want %v at most", got, stallMost)
		}
		c.Close()
		if got := scope.free.Load(); room.n.Load() != 0 || got != 1<<40 || scope.spans.Load() != 0 {
			t.Errorf("%d buffers, %d bytes and %d spans are left", room.n.Load(), 1<<40-got, scope.spans.Load())
		}
	})
}
