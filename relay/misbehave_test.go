package relay

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"wanderfs/relay/wire"
)

// shared is a gateway, a session that listens there and a reader's stream to
// it, echoed, that is to outlive what another reader does.
type shared struct {
	a    *lone
	s    *Session
	pub  *Path
	good *Conn
}

const sharedJoin = 5

func newShared(t *testing.T) *shared {
	t.Helper()
	x := &shared{a: newLone(t)}
	x.s, _ = NewSession()
	x.pub = x.a.path(t)
	l, err := x.pub.Listen(context.Background(), x.s, [32]byte{sharedJoin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	if x.good, err = x.a.path(t).Join(context.Background(), x.s.Keys(), [32]byte{sharedJoin}, nil); err != nil {
		t.Fatal(err)
	}
	return x
}

// lives fails unless the standing path still carries the good reader's stream.
func (x *shared) lives(t *testing.T) {
	t.Helper()
	x.good.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := x.good.Write([]byte("echo")); err != nil {
		t.Fatalf("another reader's stream: %v", err)
	}
	var b [4]byte
	if _, err := io.ReadFull(x.good, b[:]); err != nil || string(b[:]) != "echo" {
		t.Fatalf("another reader's stream: got %q, %v", b, err)
	}
	if err := x.pub.Err(); err != nil {
		t.Fatalf("the standing path: %v", err)
	}
}

// joinRaw sends a JOIN that is right and nothing else, and gives the stream's
// id and what comes back on it.
func (x *shared) joinRaw(t *testing.T, p *Path, s *Session) (uint32, chan wire.Command) {
	t.Helper()
	back := spy{got: make(chan wire.Command, 8)}
	var id uint32
	if err := p.add(back, &id); err != nil {
		t.Fatal(err)
	}
	_, m, err := wire.NewGreeting("main", &s.keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	mac := wire.JoinMAC(wire.Verifier([32]byte{sharedJoin}, x.a.d.Node), p.hash, s.Number())
	b, _ := wire.Join{Number: s.Number(), MAC: mac, Msg: m}.AppendBinary(nil)
	if err := p.send(wire.CmdJoin, id, b); err != nil {
		t.Fatal(err)
	}
	return id, back.got
}

// TestOutOfTurn: cells that a stream does not have at that moment end the
// circuit of the reader who sends them, not the standing path.
func TestOutOfTurn(t *testing.T) {
	x := newShared(t)
	slow, _ := NewSession() // accepts nobody
	pub := x.a.path(t)
	l, err := pub.Listen(context.Background(), slow, [32]byte{sharedJoin})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, c := range map[string]struct {
		cmd  wire.Command
		size int
		to   *Session
	}{
		"data before joined":   {wire.CmdData, 40, slow},
		"end before joined":    {wire.CmdEnd, wire.TagSize, slow},
		"window before joined": {wire.CmdWindow, 4, slow},
		"short data":           {wire.CmdData, wire.TagSize - 1, x.s},
		"long end":             {wire.CmdEnd, wire.TagSize + 1, x.s},
	} {
		p := x.a.path(t)
		id, back := x.joinRaw(t, p, c.to)
		if c.to == x.s {
			if got := <-back; got != wire.CmdJoined {
				t.Fatalf("%s: got command %d, want JOINED", name, got)
			}
		}
		data := make([]byte, c.size)
		data[c.size-1] = 1      // a WINDOW of 1
		p.send(c.cmd, id, data) // the path may end meanwhile
		if got := <-back; got != 0 {
			t.Errorf("%s: got command %d, want the end of the reader's path", name, got)
		}
		x.lives(t)
		if err := pub.Ping(context.Background()); err != nil {
			t.Fatalf("%s: the standing path: %v", name, err)
		}
	}
}

// TestFalseRecord: a reader's record that does not open costs his stream.
func TestFalseRecord(t *testing.T) {
	x := newShared(t)
	for range 3 {
		c, err := x.a.path(t).Join(context.Background(), x.s.Keys(), [32]byte{sharedJoin}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.tx = newRecord(&[32]byte{1}, time.Hour) // other keys
		if _, err := c.Write([]byte("nonsense")); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrRefused) {
			t.Errorf("got %v, want %v", err, ErrRefused)
		}
		x.lives(t)
	}
}

// TestResetBeforeOpen: of a stream that is over before its OPEN has left, the
// session hears nothing: a RESET would count as a cell for an unknown stream,
// and many end the standing path.
func TestResetBeforeOpen(t *testing.T) {
	e := newFarEnd(&circuit{r: newLone(t).r, nb: &neighbour{}})
	early, late := &half{far: e, unsaid: true}, &half{far: e, unsaid: true}
	for _, h := range []*half{late, early} {
		f := newFrame()
		f.h = wire.Header{Cmd: wire.CmdOpen}
		if !h.enter(f) {
			t.Fatal("no room for a stream")
		}
	}
	f := e.take()
	if f.h.Stream != late.id {
		t.Fatalf("got OPEN of stream %d, want %d", f.h.Stream, late.id)
	}
	f.free()
	early.drop(wire.ReasonCancelled)
	late.drop(wire.ReasonCancelled)
	if early.reset || !late.reset {
		t.Errorf("got RESET before OPEN %v, after it %v, want only after", early.reset, late.reset)
	}
}

// TestSmallWindows: a reader who gives credit in the smallest pieces for a
// stream that the session has given up does not end the standing path.
func TestSmallWindows(t *testing.T) {
	x := newShared(t)
	p := x.a.path(t)
	id, back := x.joinRaw(t, p, x.s)
	if got := <-back; got != wire.CmdJoined {
		t.Fatalf("got command %d, want JOINED", got)
	}
	x.pub.mu.Lock()
	c := x.pub.streams[4].(*Conn) // the second that the gateway opened
	before := x.pub.budget
	x.pub.mu.Unlock()
	c.mu.Lock()
	want := before + c.ahead + spare + wire.MaxWindow - c.credit
	c.mu.Unlock()
	c.broken(errTag)
	x.pub.mu.Lock()
	got := x.pub.budget
	x.pub.mu.Unlock()
	if got != want {
		t.Errorf("got room for %d late cells, want %d", got, want)
	}
	for range wire.MaxWindow - wire.InitialWindow {
		if p.send(wire.CmdWindow, id, wire.AppendWindow(nil, 1)) != nil {
			break
		}
	}
	x.lives(t)
}
