package mux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"pgregory.net/rapid"

	"wanderfs/relay/wire"
)

// FuzzSession feeds one side of a connection with anything, while this side
// accepts, opens, reads some streams and writes to others. It must not panic,
// must hold no more than a small multiple of what came, and must end with the
// connection, leaving nothing counted.
func FuzzSession(f *testing.F) {
	open := msg(nil, typeWindow, flagSYN, 1, 0)
	f.Add(append(msg(open, typeData, flagFIN, 1, 3), 1, 2, 3), true)
	f.Add(msg(msg(open, typeWindow, 0, 1, 1<<31), typeWindow, flagRST, 1, 4), false)
	f.Add(msg(msg(nil, typePing, flagSYN, 0, 1), typeGoAway, 0, 0, 0), true)
	f.Add(msg(msg(open, typeWindow, flagACK, 2, 1<<20), typeData, flagRST, 2, 0), true)
	f.Add(append(msg(open, typeData, 0, 1, wire.FrameSize), make([]byte, wire.FrameSize+5)...), false)
	f.Fuzz(func(t *testing.T, in []byte, server bool) {
		x, y := net.Pipe()
		scope := &countingScope{}
		scope.free.Store(64 * FirstWindow)
		c, err := Multiplexer{}.NewConn(x, server, scope)
		if err != nil {
			t.Fatal(err)
		}
		m := c.(*Conn)
		var room countingRoom
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(io.Discard, y) })
		use := func(s network.MuxedStream) {
			ms := s.(*Stream)
			ms.Count(&room)
			switch ms.id % 8 {
			case 1, 2: // only holds
				<-m.over
				s.Reset()
			case 3, 4:
				ms.Open()
				for {
					b, err := ms.ReadFrame()
					if b != nil {
						b.Free()
					} else if err == nil {
						_, err = s.Read(make([]byte, 100))
					}
					if err != nil {
						break
					}
				}
				s.Close()
			default:
				s.Write(make([]byte, 300_000))
				s.CloseWrite()
				io.Copy(io.Discard, s)
				s.Close()
			}
		}
		wg.Go(func() {
			for {
				s, err := c.AcceptStream()
				if err != nil {
					return
				}
				wg.Go(func() { use(s) })
			}
		})
		for range 4 {
			if s, err := c.OpenStream(context.Background()); err == nil {
				wg.Go(func() { use(s) })
			}
		}
		for part := in; len(part) > 0; {
			n := min(len(part), 1000)
			if _, err := y.Write(part[:n]); err != nil {
				break
			}
			part = part[n:]
			// Any two buffers of a stream in a row are more than half full.
			if got, most := room.n.Load(), int64(2*len(in)/wire.FrameSize+1+len(in)/headSize); got > most {
				t.Fatalf("%d buffers for %d bytes, want %d at most", got, len(in), most)
			}
		}
		y.Close()
		<-m.over
		wg.Wait()
		c.Close()
		if n := room.n.Load(); n != 0 || len(m.streams) != 0 || m.opening != 0 {
			t.Errorf("%d buffers, %d streams and %d that open are left", n, len(m.streams), m.opening)
		}
		for len(m.accepted) > 0 { // nobody took them; they are lost
			<-m.accepted
		}
		if got := scope.free.Load(); got != 64*FirstWindow || scope.spans.Load() != 0 {
			t.Errorf("%d bytes are reserved in %d spans", 64*FirstWindow-got, scope.spans.Load())
		}
	})
}

// muxEnd is one end of a stream in TestBeside: what its user wrote and has
// read, and how it stands.
type muxEnd struct {
	s           network.MuxedStream
	wrote, read []byte
	shut        bool // it writes no more
	eof         bool
	deaf        bool // it reads no more
	gone        bool // closed or reset
}

// TestBeside: streams between this multiplexer and libp2p's, opened, written,
// read, closed and reset from both ends in any order. All that was written and
// not given up arrives, in order and no more of it; an end that both see comes
// behind it; a deadline ends a call and nothing else.
func TestBeside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		client, server := network.Multiplexer(Multiplexer{}), network.Multiplexer(yamux.DefaultTransport)
		if rapid.Bool().Draw(t, "other way round") {
			client, server = server, client
		}
		a, b := overTCP(t, client, server)
		defer a.Close()
		defer b.Close()
		type pair [2]*muxEnd
		var pairs []pair
		rng := rand.NewChaCha8([32]byte{9})
		pick := func(t *rapid.T, fit func(e, other *muxEnd) bool) (e, other *muxEnd) {
			var all []pair
			for _, p := range pairs {
				for i := range p {
					if fit(p[i], p[1-i]) {
						all = append(all, pair{p[i], p[1-i]})
					}
				}
			}
			if len(all) == 0 {
				t.Skip("none")
			}
			p := all[rapid.IntRange(0, len(all)-1).Draw(t, "stream")]
			return p[0], p[1]
		}
		open := func(from, to network.MuxedConn, i int) func(t *rapid.T) {
			return func(t *rapid.T) {
				x, err := from.OpenStream(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				y, err := to.AcceptStream()
				if err != nil {
					t.Fatal(err)
				}
				p := pair{{s: x}, {s: y}}
				pairs = append(pairs, p)
			}
		}
		write := func(t *rapid.T) {
			e, other := pick(t, func(e, other *muxEnd) bool {
				return !e.shut && !e.gone && !other.gone && !other.deaf && len(e.wrote)-len(other.read) < FirstWindow/2
			})
			p := make([]byte, rapid.SampledFrom([]int{1, 12, 1000, wire.FrameSize, 70_000}).Draw(t, "n"))
			rng.Read(p)
			p = p[:min(len(p), FirstWindow/2-(len(e.wrote)-len(other.read)))]
			if n, err := e.s.Write(p); err != nil || n != len(p) {
				t.Fatalf("wrote %d of %d: %v", n, len(p), err)
			}
			e.wrote = append(e.wrote, p...)
		}
		read := func(t *rapid.T) {
			e, other := pick(t, func(e, other *muxEnd) bool {
				return !e.gone && !e.deaf && !e.eof && !other.gone && (len(e.read) < len(other.wrote) || other.shut)
			})
			if len(e.read) == len(other.wrote) {
				if n, err := e.s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Fatalf("got %d bytes and %v behind the last, want io.EOF", n, err)
				}
				e.eof = true
				return
			}
			p := make([]byte, rapid.IntRange(1, 100_000).Draw(t, "n"))
			n, err := e.s.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			e.read = append(e.read, p[:n]...)
			if !bytes.HasPrefix(other.wrote, e.read) {
				t.Fatal("other bytes came than were written")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"open":   open(a, b, 0),
			"accept": open(b, a, 1),
			"write":  write,
			"write2": write,
			"read":   read,
			"read2":  read,
			"wait": func(t *rapid.T) {
				e, _ := pick(t, func(e, other *muxEnd) bool {
					return !e.gone && !e.deaf && !e.eof && !other.gone && !other.shut && len(e.read) == len(other.wrote)
				})
				e.s.SetReadDeadline(time.Now().Add(time.Millisecond))
				var late interface{ Timeout() bool }
				if n, err := e.s.Read(make([]byte, 1)); n != 0 || !errors.As(err, &late) || !late.Timeout() {
					t.Fatalf("got %d bytes and %v, want a passed deadline", n, err)
				}
				e.s.SetReadDeadline(time.Time{})
			},
			"shut": func(t *rapid.T) {
				e, _ := pick(t, func(e, other *muxEnd) bool { return !e.shut && !e.gone && !other.gone })
				if err := e.s.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				e.shut = true
			},
			"deaf": func(t *rapid.T) {
				e, _ := pick(t, func(e, other *muxEnd) bool { return !e.deaf && !e.gone && !other.gone })
				e.s.CloseRead()
				e.deaf = true
				_, ours := e.s.(*Stream) // libp2p's goes on with what came before the other side's end
				if _, err := e.s.Read(make([]byte, 1)); ours && !errors.Is(err, network.ErrReset) {
					t.Fatalf("a read behind CloseRead gave %v", err)
				}
			},
			"reset": func(t *rapid.T) {
				e, other := pick(t, func(e, other *muxEnd) bool { return !e.gone && !other.gone })
				e.s.ResetWithError(7)
				e.gone = true
				other.gone = true
				if e.shut && other.shut {
					return // it was over
				}
				var why *network.StreamError
				other.s.SetReadDeadline(time.Now().Add(time.Minute))
				_, err := io.Copy(io.Discard, other.s)
				if other.deaf || e.shut { // what was said before the reset stands
					return
				}
				if !errors.As(err, &why) || !why.Remote || why.ErrorCode != 7 {
					t.Fatalf("got %v, want the other side's reset with code 7", err)
				}
			},
			"": func(*rapid.T) {},
		})
		for _, p := range pairs {
			for i, e := range p {
				if e.gone || e.deaf {
					continue
				}
				o := p[1-i]
				o.s.CloseWrite()
				e.s.SetReadDeadline(time.Now().Add(time.Minute))
				rest, err := io.ReadAll(e.s)
				if err != nil || !bytes.Equal(append(e.read, rest...), o.wrote) {
					t.Fatalf("got %d and %d bytes of %d: %v", len(e.read), len(rest), len(o.wrote), err)
				}
			}
		}
		for _, p := range pairs {
			p[0].s.Close()
			p[1].s.Close()
		}
	})
}

// TestStalledSocket: who does not read ends the connection, and all calls on
// it, in the time that a write may take.
func TestStalledSocket(t *testing.T) {
	x, y := net.Pipe()
	c, err := Multiplexer{}.NewConn(deadlined{x}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	defer c.Close()
	s, err := c.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(make([]byte, 1000)); !errors.Is(err, errStalled) {
		t.Errorf("got %v, want a stalled connection", err)
	}
	if _, err := c.OpenStream(t.Context()); err == nil {
		t.Error("a stream was opened on a dead connection")
	}
}

// deadlined shortens what a write may take.
type deadlined struct{ net.Conn }

func (d deadlined) SetWriteDeadline(t time.Time) error {
	if left := time.Until(t); left < stallMost/2 || left > stallMost {
		return errors.New("too short or too long")
	}
	return d.Conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
}
