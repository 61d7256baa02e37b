package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"wanderfs/relay/wire"
)

// lone is a relay that one dials over net.Pipe, and its descriptor.
type lone struct {
	r   *Relay
	key ed25519.PrivateKey
	d   wire.Descriptor
}

type pipeLink struct {
	net.Conn
	peer wire.NodeID
}

func (l pipeLink) Reset() error      { return l.Close() }
func (l pipeLink) Peer() wire.NodeID { return l.peer }

func (l *lone) Dial(context.Context, wire.Descriptor) (Link, error) {
	a, b := pipe(l.d.Node, wire.NodeID{1})
	go l.r.Serve(b)
	return a, nil
}

// pipe makes a link to a node from another.
func pipe(to, from wire.NodeID) (a, b Link) {
	x, y := net.Pipe()
	var reset atomic.Bool
	return resetLink{pipeLink{x, to}, &reset}, resetLink{pipeLink{y, from}, &reset}
}

// resetLink tells a reset from an end, at both ends.
type resetLink struct {
	pipeLink
	reset *atomic.Bool
}

func (l resetLink) Reset() error {
	l.reset.Store(true)
	return l.Close()
}

func (l resetLink) Read(b []byte) (int, error) {
	n, err := l.pipeLink.Read(b)
	if err == io.EOF && l.reset.Load() {
		err = errReset
	}
	return n, err
}

var errReset = errors.New("link was reset")

func newLone(t *testing.T) *lone {
	t.Helper()
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	r, err := New(Config{Identity: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	l := &lone{r: r, key: key}
	if err := l.renew(); err != nil {
		t.Fatal(err)
	}
	return l
}

// renew makes a descriptor with the onion key of now.
func (l *lone) renew() error {
	onion, expires := l.r.Onion()
	l.d = wire.Descriptor{
		Onion: onion, Issued: time.Now().Truncate(time.Second), Expires: expires,
		Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")},
	}
	return l.d.Sign(l.key, "main")
}

func (l *lone) path(t *testing.T) *Path {
	t.Helper()
	p, err := (&Builder{Network: l}).Build(context.Background(), []wire.Descriptor{l.d})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// say sends a command on a stream and gives the first command that comes back
// on it; 0 if the path ends.
func (p *Path) say(t *testing.T, cmd wire.Command, data []byte) wire.Command {
	t.Helper()
	s := spy{got: make(chan wire.Command, 8)}
	var id uint32
	if err := p.add(s, &id); err != nil {
		t.Fatal(err)
	}
	if p.send(cmd, id, data) != nil {
		return 0
	}
	return <-s.got
}

type spy struct{ got chan wire.Command }

func (s spy) cell(f *frame) error {
	s.got <- f.h.Cmd
	f.free()
	return nil
}

func (s spy) fail(error) { s.got <- 0 }

// TestListenBound: what a session signed for one gateway and circuit is of no
// use at another, nor with another key.
func TestListenBound(t *testing.T) {
	a, b := newLone(t), newLone(t)
	s, _ := NewSession()
	p := a.path(t)
	sign := func(gateway wire.NodeID, circuit [32]byte, network string) []byte {
		m := wire.Listen{Keys: s.keys, Verifier: [32]byte{7}}
		m.Sign(s.sign, network, gateway, circuit)
		out, _ := m.AppendBinary(nil)
		return out
	}
	good := sign(a.d.Node, p.hash, "main")
	tampered := append([]byte(nil), good...)
	tampered[wire.ListenSize-70] ^= 1 // the verifier
	for _, c := range []struct {
		name string
		p    *Path
		b    []byte
		want wire.Command
	}{
		{"another gateway's", p, sign(b.d.Node, p.hash, "main"), wire.CmdReset},
		{"another circuit's", p, sign(a.d.Node, [32]byte{1}, "main"), wire.CmdReset},
		{"another network's", p, sign(a.d.Node, p.hash, "other"), wire.CmdReset},
		{"another verifier", p, tampered, wire.CmdReset},
		{"replayed there", b.path(t), good, wire.CmdReset},
		{"replayed on another", a.path(t), good, wire.CmdReset},
		{"good", p, good, wire.CmdListening},
	} {
		if got := c.p.say(t, wire.CmdListen, c.b); got != c.want {
			t.Errorf("%s: got command %d, want %d", c.name, got, c.want)
		}
	}
}

// TestJoinBound: a MAC seen on one circuit is of no use on another.
func TestJoinBound(t *testing.T) {
	a := newLone(t)
	s, _ := NewSession()
	join := [32]byte{5}
	pub := a.path(t)
	l, err := pub.Listen(context.Background(), s, join)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, q := a.path(t), a.path(t)
	msg := func(circuit [32]byte) []byte {
		_, m, err := wire.NewGreeting("main", &s.keys, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := wire.Join{Number: s.Number(), MAC: wire.JoinMAC(wire.Verifier(join, a.d.Node), circuit, s.Number()), Msg: m}.AppendBinary(nil)
		return b
	}
	if got := q.say(t, wire.CmdJoin, msg(p.hash)); got != wire.CmdReset {
		t.Errorf("replayed: got command %d, want RESET", got)
	}
	go l.Accept(context.Background())
	// Credit may overtake the answer.
	if got := p.say(t, wire.CmdJoin, msg(p.hash)); got != wire.CmdJoined && got != wire.CmdWindow {
		t.Errorf("got command %d, want JOINED", got)
	}
}

// TestNonsense: cells that no builder of ours sends end the circuit.
func TestNonsense(t *testing.T) {
	a := newLone(t)
	for name, c := range map[string]struct {
		cmd  wire.Command
		data []byte
	}{
		"answer":           {wire.CmdAnswer, nil},
		"pong":             {wire.CmdPong, make([]byte, 8)},
		"listening":        {wire.CmdListening, nil},
		"listen":           {wire.CmdListen, make([]byte, 5)},
		"join":             {wire.CmdJoin, make([]byte, 70)},
		"ask":              {wire.CmdAsk, make([]byte, 3)},
		"reserved":         {1, make([]byte, 3)},
		"ping":             {wire.CmdPing, make([]byte, 9)},
		"ping of a stream": {wire.CmdPing, make([]byte, 8)},
		"window":           {wire.CmdWindow, make([]byte, 4)},
		"no command":       {0, nil},
		"command 19":       {19, nil}, "puzzle": {wire.CmdPuzzle, nil}, "solution": {wire.CmdSolution, make([]byte, 5)},
	} {
		if got := a.path(t).say(t, c.cmd, c.data); got != 0 {
			t.Errorf("%s: got command %d, want the end of the path", name, got)
		}
	}
}

// TestUnknownStreams: a few cells for no stream are let pass, many are not.
func TestUnknownStreams(t *testing.T) {
	p := newLone(t).path(t)
	for range spare {
		if err := p.send(wire.CmdData, 99, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Ping(context.Background()); err != nil {
		t.Errorf("after %d: %v", spare, err)
	}
	p.send(wire.CmdData, 99, nil)
	<-p.Done()
}

// TestPadding: a cell with something behind its data ends the circuit.
func TestPadding(t *testing.T) {
	p := newLone(t).path(t)
	f := newFrame()
	wire.Header{Cmd: wire.CmdPing, Len: 8}.Put(f.cell(p.off()))
	f.pad(p.off(), 8)
	f.cell(p.off())[wire.CellSize-1] = 1
	p.sendFrame(f)
	<-p.Done()
}

// TestFalseListens: signatures cost the gateway work, so that a circuit has few
// that do not fit.
func TestFalseListens(t *testing.T) {
	p := newLone(t).path(t)
	s, _ := NewSession()
	m := wire.Listen{Keys: s.keys}
	b, _ := m.AppendBinary(nil)
	for n := 0; p.say(t, wire.CmdListen, b) == wire.CmdReset; n++ {
		if n > spare {
			t.Fatalf("%d false LISTENs, and the circuit goes on", n)
		}
	}
	<-p.Done()
}
