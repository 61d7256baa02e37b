package relay

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"wanderfs/relay/wire"
)

// TestStreamIDsOnce: a stream id opens one stream of a circuit, ever, and ids
// ascend; who opens an old one, long over or never used, loses the circuit.
func TestStreamIDsOnce(t *testing.T) {
	ask := func(p *rawPath, id uint32) { p.send(wire.CmdAsk, id, wire.AppendAsk(nil, 0)) }
	join := func(p *rawPath, id uint32) {
		b, _ := wire.Join{Number: wire.SessionNumber{9}, Msg: make([]byte, wire.HelloSize)}.AppendBinary(nil)
		p.send(wire.CmdJoin, id, b)
	}
	listen := func(p *rawPath, id uint32) {
		b, _ := wire.Listen{}.AppendBinary(nil) // signed by nobody
		p.send(wire.CmdListen, id, b)
	}
	all := map[string]func(*rawPath, uint32){"ASK": ask, "JOIN": join, "LISTEN": listen}
	ls := chain(t, 2)
	for first, open := range all {
		for second, again := range all {
			for _, id := range []uint32{5, 3, 8} { // the same, an earlier one, one of the gateway's
				t.Run(fmt.Sprintf("%s then %s %d", first, second, id), func(t *testing.T) {
					p, err := openRaw(ls)
					if err != nil {
						t.Fatal(err)
					}
					defer p.l.Reset()
					open(p, 5)
					if h, _, ok := p.receive(); !ok || h.Stream != 5 {
						t.Fatalf("got stream %d, alive %v", h.Stream, ok)
					}
					again(p, 7) // ascending ids are all right
					if h, _, ok := p.receive(); !ok || h.Stream != 7 {
						t.Fatalf("got stream %d, alive %v", h.Stream, ok)
					}
					again(p, id)
					if h, _, ok := p.receive(); ok {
						t.Errorf("got command %d on stream %d, want the end of the circuit", h.Cmd, h.Stream)
					}
				})
			}
		}
	}
}

// TestGatewayStreamIDsOnce: nor does a publisher take a stream under an id
// that its gateway has used.
func TestGatewayStreamIDsOnce(t *testing.T) {
	a := newLone(t)
	p := a.path(t)
	s, _ := NewSession()
	l, err := p.Listen(context.Background(), s, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, x := range []struct {
		id   uint32
		want error
	}{{6, nil}, {8, nil}, {8, errProtocol}, {6, errProtocol}, {4, errProtocol}, {9, errProtocol}, {0, errProtocol}, {10, nil}} {
		f := newFrame()
		f.h = wire.Header{Cmd: wire.CmdOpen, Stream: x.id, Len: wire.HelloSize}
		f.data = make([]byte, wire.HelloSize)
		if got := p.opened(f); got != x.want {
			t.Errorf("stream %d: got %v, want %v", x.id, got, x.want)
		}
		p.mu.Lock()
		if c, ok := p.streams[x.id].(*Conn); ok { // long over when it comes again
			delete(p.streams, c.id)
		}
		p.mu.Unlock()
	}
}

// TestStreamIDsAscend: however many open streams at once, ids arrive in order:
// else paths would end.
func TestStreamIDsAscend(t *testing.T) {
	x := newShared(t)
	p := x.a.path(t)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = p.Ask(context.Background(), make([]byte, 3*wire.MaxData))
				if p.Err() == nil {
					err = nil // refused: nobody answers here
				}
			} else {
				var c *Conn
				if c, err = p.Join(context.Background(), x.s.Keys(), [32]byte{sharedJoin}, nil); err == nil {
					err = c.Close()
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	x.lives(t)
}
