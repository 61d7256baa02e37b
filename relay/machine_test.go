package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"wanderfs/relay/wire"
)

// rawPath is a builder that may do anything: a model of a circuit beside it
// says what must come of it.
type rawPath struct {
	l      Link
	out    outward
	in     inward
	hash   [32]byte
	last   wire.NodeID
	sealed []byte // the last frame sent

	id        uint32
	listening bool
	strays    int
	over      bool
}

// chain makes a way of n relays, nearest first, each of which can dial the one
// behind it.
func chain(t *testing.T, n int) (ls []*lone) {
	for i := range n {
		ls = append(ls, newLone(t))
		if i > 0 {
			ls[i-1].r.cfg.Network = ls[i]
		}
	}
	return ls
}

// openRaw sets a path up.
func openRaw(ls []*lone) (*rawPath, error) {
	var hops []wire.Descriptor
	for _, l := range ls {
		if err := l.renew(); err != nil {
			return nil, err
		}
		hops = append(hops, l.d)
	}
	packet, b, err := wire.NewSetup("main", hops)
	if err != nil {
		return nil, err
	}
	l, _ := ls[0].Dial(context.Background(), hops[0])
	p := &rawPath{l: l, out: *newOutward(), last: hops[len(hops)-1].Node, id: 1}
	reply, err := deliver(l, packet, time.Now().Add(time.Minute), time.Now().Add(time.Minute))
	if err != nil {
		return nil, err
	}
	keys, err := b.Finish(reply)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		p.out.hops, p.in.hops = append(p.out.hops, newLayer(&k.Forward)), append(p.in.hops, newLayer(&k.Backward))
	}
	p.hash = keys[len(keys)-1].Hash
	return p, nil
}

// frame seals a cell; change may change the cell before and the frame after.
func (p *rawPath) frame(cmd wire.Command, id uint32, data []byte, cell, frame func([]byte)) []byte {
	f := newFrame()
	defer f.free()
	off := p.out.off()
	wire.Header{Cmd: cmd, Len: len(data), Stream: id}.Put(f.cell(off))
	copy(f.b[off+wire.HeaderSize:], data)
	f.pad(off, len(data))
	if cell != nil {
		cell(f.cell(off))
	}
	if err := p.out.seal(f); err != nil {
		panic(err)
	}
	b := bytes.Clone(f.b[:wire.FrameSize])
	if frame != nil {
		frame(b)
	}
	p.sealed = b
	return b
}

func (p *rawPath) send(cmd wire.Command, id uint32, data []byte) {
	p.l.Write(p.frame(cmd, id, data, nil, nil))
}

// receive gives the next cell; false if the circuit is over.
func (p *rawPath) receive() (wire.Header, []byte, bool) {
	f := newFrame()
	defer f.free()
	if _, err := io.ReadFull(p.l, f.b[:wire.FrameSize]); err != nil {
		return wire.Header{}, nil, false
	}
	off, err := p.in.open(f)
	if err != nil {
		panic(fmt.Sprintf("the relay's frame does not open: %v", err))
	}
	h, data, err := wire.ParseCell(f.cell(off))
	if err != nil {
		panic(err)
	}
	return h, bytes.Clone(data), true
}

// expect reads one cell, or the end.
func (p *rawPath) expect(t *rapid.T, what string, cmd wire.Command, id uint32) []byte {
	h, data, ok := p.receive()
	if !ok || h.Cmd != cmd || h.Stream != id {
		t.Fatalf("%s: got command %d on stream %d, alive %v; want %d on %d", what, h.Cmd, h.Stream, ok, cmd, id)
	}
	return data
}

func (p *rawPath) end(t *rapid.T, what string) {
	if h, _, ok := p.receive(); ok {
		t.Fatalf("%s: got command %d, want the end of the circuit", what, h.Cmd)
	}
	p.over = true
}

func (p *rawPath) next() uint32 { p.id += 2; return p.id }

func (p *rawPath) ping(t *rapid.T) {
	token := []byte{byte(p.id), 2, 3, 4, 5, 6, 7, 8}
	p.send(wire.CmdPing, 0, token)
	if got := p.expect(t, "ping", wire.CmdPong, 0); !bytes.Equal(got, token) {
		t.Fatalf("another pong came back")
	}
}

// violate does something that must end the circuit at once.
func (p *rawPath) violate(t *rapid.T) {
	kind := rapid.SampledFrom([]string{"flip", "repeat", "skip", "garbage", "early turn", "reserved", "command", "backward command", "padding", "version", "length", "short", "open stream twice", "half a frame"}).Draw(t, "violation")
	ping := make([]byte, 8)
	var b []byte
	switch kind {
	case "flip":
		at := rapid.IntRange(0, wire.FrameSize-1).Draw(t, "at")
		b = p.frame(wire.CmdPing, 0, ping, nil, func(b []byte) { b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit") })
	case "repeat":
		p.ping(t)
		b = p.sealed
	case "skip":
		p.frame(wire.CmdPing, 0, ping, nil, nil)
		b = p.frame(wire.CmdPing, 0, ping, nil, nil)
	case "garbage":
		b = bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes"), wire.FrameSize/16)
	case "early turn":
		p.out.turn() // by the second time at least
		p.out.turn()
		b = p.frame(wire.CmdPing, 0, ping, nil, nil)
	case "reserved":
		b = p.frame(wire.Command(rapid.IntRange(0, 2).Draw(t, "command")), 0, nil, nil, nil)
	case "command":
		b = p.frame(wire.Command(rapid.IntRange(19, 255).Draw(t, "command")), 0, nil, nil, nil)
	case "backward command":
		b = p.frame(rapid.SampledFrom([]wire.Command{wire.CmdAnswer, wire.CmdListening, wire.CmdJoined, wire.CmdOpen, wire.CmdPong, wire.CmdPuzzle}).Draw(t, "command"), 0, ping, nil, nil)
	case "padding":
		at := rapid.IntRange(wire.HeaderSize+8, wire.CellSize-1).Draw(t, "at")
		b = p.frame(wire.CmdPing, 0, ping, func(c []byte) { c[at] = 1 }, nil)
	case "version":
		b = p.frame(wire.CmdPing, 0, ping, func(c []byte) { c[0]++ }, nil)
	case "length":
		b = p.frame(wire.CmdPing, 0, ping, func(c []byte) { c[2] = 0xff }, nil)
	case "short":
		cmd := rapid.SampledFrom([]wire.Command{wire.CmdPing, wire.CmdListen, wire.CmdJoin, wire.CmdAsk, wire.CmdWindow, wire.CmdSolution}).Draw(t, "command")
		b = p.frame(cmd, 1, rapid.SliceOfN(rapid.Byte(), 1, 3).Draw(t, "data"), nil, nil)
	case "open stream twice":
		b = p.frame(wire.CmdJoin, 2, make([]byte, 64+wire.HelloSize), nil, nil) // an even id
	case "half a frame":
		p.l.Write(p.frame(wire.CmdPing, 0, ping, nil, nil)[:wire.FrameSize/2])
		p.l.Close()
		p.over = true
		return
	}
	p.l.Write(b)
	p.end(t, kind)
}

// noDeadline is a test that rapid does not ask for its deadline, which has no
// meaning where time is simulated.
type noDeadline struct{ testing.TB }

// TestCircuitMachine does at random what builders do, and what they must not,
// and compares with a model of the far end: what is answered, and how, and
// when a circuit ends. Afterwards nothing of it is left.
func TestCircuitMachine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		chains := map[int][]*lone{}
		var all []*Relay
		for n := 1; n <= 3; n++ {
			chains[n] = chain(t, n)
			for _, l := range chains[n] {
				all = append(all, l.r)
				m := &l.r.limits
				m.Creates, m.PerTarget, m.Queries, m.Opens, m.Turn = 1e9, 1e9, 1e9, 1e9, 5*time.Second
			}
		}
		session, err := NewSession()
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(noDeadline{t}, func(t *rapid.T) {
			var p *rawPath
			open := func(t *rapid.T) {
				n := rapid.IntRange(1, 3).Draw(t, "hops")
				var err error
				if p, err = openRaw(chains[n]); err != nil {
					t.Fatal(err)
				}
			}
			empty := func(t *rapid.T) {
				p.l.Close()
				synctest.Wait()
				for _, r := range all {
					if s := r.Stats(); s.Circuits != 0 || Held(r) != 0 || len(r.sessions) != 0 {
						t.Fatalf("left behind: %d circuits, %d frames, %d sessions", s.Circuits, Held(r), len(r.sessions))
					}
				}
			}
			open(t)
			defer func() { empty(t) }()
			alive := func(f func(t *rapid.T)) func(*rapid.T) {
				return func(t *rapid.T) {
					if p.over {
						empty(t)
						open(t)
					}
					f(t)
				}
			}
			t.Repeat(map[string]func(*rapid.T){
				"":     func(t *rapid.T) {},
				"ping": alive(func(t *rapid.T) { p.ping(t) }),
				"ask": alive(func(t *rapid.T) {
					id, total := p.next(), rapid.IntRange(0, 3*wire.MaxData).Draw(t, "length")
					data := append(wire.AppendAsk(nil, total), make([]byte, total)...)
					for len(data) > 0 {
						m := min(len(data), wire.MaxData)
						p.send(wire.CmdAsk, id, data[:m])
						data = data[m:]
					}
					got := p.expect(t, "ask", wire.CmdAnswer, id)
					if s, _, _, err := wire.ParseAnswer(got); err != nil || s != wire.StatusRefused {
						t.Fatalf("ask: got status %d, %v", s, err)
					}
				}),
				"listen": alive(func(t *rapid.T) {
					id, good := p.next(), rapid.Bool().Draw(t, "good")
					m := wire.Listen{Keys: session.keys, Verifier: [32]byte{1}}
					hash := p.hash
					if !good {
						hash[0] ^= 1
					}
					m.Sign(session.sign, "main", p.last, hash)
					b, _ := m.AppendBinary(nil)
					p.send(wire.CmdListen, id, b)
					if !good { // counts as a cell for no stream
						if p.strays++; p.strays > spare {
							p.end(t, "too many false LISTENs")
							return
						}
					}
					want := wire.CmdReset
					if good && !p.listening {
						want, p.listening = wire.CmdListening, true
					}
					p.expect(t, "listen", want, id)
				}),
				"join nobody": alive(func(t *rapid.T) {
					id := p.next()
					b, _ := wire.Join{Number: wire.SessionNumber{9}, Msg: make([]byte, wire.HelloSize)}.AppendBinary(nil)
					p.send(wire.CmdJoin, id, b)
					p.expect(t, "join", wire.CmdReset, id)
				}),
				"stray": alive(func(t *rapid.T) {
					cmd := rapid.SampledFrom([]wire.Command{wire.CmdData, wire.CmdEnd, wire.CmdWindow, wire.CmdReset, wire.CmdOpened}).Draw(t, "command")
					data := map[wire.Command]int{wire.CmdData: 40, wire.CmdEnd: 16, wire.CmdWindow: 4, wire.CmdReset: 1, wire.CmdOpened: wire.WelcomeSize}[cmd]
					b := make([]byte, data)
					if cmd == wire.CmdWindow {
						b[3] = 1
					}
					for range rapid.IntRange(1, 40).Draw(t, "times") {
						p.send(cmd, 0xffff1, b)
						if p.strays++; p.strays > spare {
							p.end(t, "too many strays")
							return
						}
					}
				}),
				"idle": alive(func(t *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(1, 10).Draw(t, "seconds")) * time.Second)
				}),
				"turn": alive(func(t *rapid.T) {
					time.Sleep(6 * time.Second)
					p.out.turn()
					p.in.turn()
					p.ping(t)
					if p.in.waits != 0 {
						t.Fatal("a hop did not turn")
					}
				}),
				"violate": alive(func(t *rapid.T) { p.violate(t) }),
				"leave": alive(func(*rapid.T) {
					p.l.Close()
					p.over = true
				}),
			})
		})
		for _, r := range all {
			r.Close()
		}
	})
}
