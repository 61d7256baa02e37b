package mux

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"wanderfs/relay/wire"
)

// raw gives a multiplexer and the bare connection of its other side, who
// opens streams 1, 3 and so on. What it answers is read and dropped.
func raw(t *testing.T, scope network.PeerScope) (*Conn, net.Conn) {
	t.Helper()
	x, y := net.Pipe()
	c, err := Multiplexer{}.NewConn(x, true, scope)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		io.Copy(io.Discard, y)
	}()
	t.Cleanup(func() {
		y.Close()
		c.Close()
		<-answers
	})
	return c.(*Conn), y
}

// send writes messages to a multiplexer and awaits that all were taken.
func send(t *testing.T, y net.Conn, m *Conn, b []byte) {
	t.Helper()
	if _, err := y.Write(b); err != nil {
		t.Fatal(err)
	}
	for heard := m.heard.Load(); ; { // the one behind has been taken when this has
		if _, err := y.Write(msg(nil, typePing, flagACK, 0, 1<<31)); err != nil {
			t.Fatal(err)
		}
		if m.heard.Load() > heard+1 {
			return
		}
	}
}

// countingRoom is a relay.Room without a bound.
type countingRoom struct {
	n      atomic.Int64
	scarce atomic.Bool
}

func (r *countingRoom) Take(n int)   { r.n.Add(int64(n)) }
func (r *countingRoom) Give(n int)   { r.n.Add(-int64(n)) }
func (r *countingRoom) Scarce() bool { return r.scarce.Load() }

// TestSmallMessages: what comes in messages of one byte and is not read
// takes no more buffers than it fills, and one; all of them count, until they
// are read or dropped.
func TestSmallMessages(t *testing.T) {
	m, y := raw(t, nil)
	var room countingRoom
	send(t, y, m, msg(nil, typeWindow, flagSYN, 1, 0))
	x, err := m.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	s := x.(*Stream)
	const n = 100_000
	var b []byte
	for i := range n {
		b = append(msg(b, typeData, 0, 1, 1), byte(i))
		b = msg(b, typeData, 0, 1, 0)
		if i == n/2 {
			send(t, y, m, b)
			b = nil
			s.Count(&room)
		}
	}
	send(t, y, m, b)
	if got, most := len(s.segs), n/wire.FrameSize+1; got > most || int64(got) != room.n.Load() {
		t.Errorf("%d bytes lie in %d buffers, of which %d count, want %d at most, and all", n, got, room.n.Load(), most)
	}
	got := make([]byte, n)
	if _, err := io.ReadFull(s, got); err != nil || got[n-1] != byte((n-1)%256) {
		t.Errorf("got %v, want all bytes", err)
	}
	if got := room.n.Load(); got != 0 {
		t.Errorf("%d buffers count when all was read, want 0", got)
	}
	for _, drop := range []func(){func() { s.CloseRead() }, func() { m.end(io.EOF) }} {
		send(t, y, m, append(msg(nil, typeData, 0, 1, 1), 1))
		drop()
		if got := room.n.Load(); got != 0 {
			t.Errorf("%d buffers count when they were dropped, want 0", got)
		}
		if drop != nil && m.IsClosed() {
			break
		}
	}
}

// TestAlternates: a byte, a frame, a byte: any two buffers in a row are more
// than half full.
func TestAlternates(t *testing.T) {
	m, y := raw(t, nil)
	b := msg(nil, typeWindow, flagSYN, 1, 0)
	total := 0
	for total+wire.FrameSize+1 < FirstWindow {
		b = append(msg(b, typeData, 0, 1, 1), 1)
		b = append(msg(b, typeData, 0, 1, wire.FrameSize), make([]byte, wire.FrameSize)...)
		total += wire.FrameSize + 1
	}
	send(t, y, m, b)
	x, err := m.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	if got, most := len(x.(*Stream).segs), 2*total/wire.FrameSize+1; got > most {
		t.Errorf("%d bytes lie in %d buffers, want %d at most", total, got, most)
	}
}

// TestBrokenProtocol: each ends the connection, with a reason.
func TestBrokenProtocol(t *testing.T) {
	syn := msg(nil, typeWindow, flagSYN, 1, 0)
	for name, b := range map[string][]byte{
		"version":          {1, typePing, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0},
		"type":             msg(nil, 4, 0, 0, 0),
		"own parity":       msg(nil, typeWindow, flagSYN, 2, 0),
		"stream 0":         msg(nil, typeWindow, flagSYN, 0, 0),
		"same stream":      append(syn[:headSize:headSize], syn...),
		"beyond window":    msg(syn[:headSize:headSize], typeData, 0, 1, FirstWindow+1),
		"window's end":     msg(syn[:headSize:headSize], typeWindow, 0, 1, 1<<32-1),
		"window's end, on": msg(msg(syn[:headSize:headSize], typeWindow, 0, 1, 1<<31), typeWindow, 0, 1, 1<<31),
	} {
		m, y := raw(t, nil)
		y.Write(b)
		select {
		case <-m.over:
		case <-time.After(time.Minute):
			t.Fatalf("%s: the connection goes on", name)
		}
		if err := m.why(); !errors.Is(err, errProtocol) {
			t.Errorf("%s: got %v, want a broken protocol", name, err)
		}
	}
}

// TestStreamUnknown: what comes for a stream that is not there is dropped,
// whatever it is.
func TestStreamUnknown(t *testing.T) {
	m, y := raw(t, nil)
	b := append(msg(nil, typeData, flagFIN, 7, 100_000), make([]byte, 100_000)...)
	b = msg(b, typeWindow, flagRST, 9, 1)
	b = msg(b, typeWindow, flagACK, 2, 1<<31)
	b = msg(b, typeWindow, 0xfff0, 11, 1<<31) // and flags that nobody knows
	send(t, y, m, b)
	if m.IsClosed() {
		t.Errorf("the connection ended: %v", m.why())
	}
}

// TestLastData: data that come with the end are read, and stay when the
// other side resets the stream behind it, or the connection ends.
func TestLastData(t *testing.T) {
	for name, then := range map[string]func(m *Conn, y net.Conn){
		"nothing": func(*Conn, net.Conn) {},
		"reset":   func(m *Conn, y net.Conn) { send(t, y, m, msg(nil, typeWindow, flagRST, 1, 5)) },
		"end":     func(m *Conn, y net.Conn) { y.Close(); <-m.over },
	} {
		m, y := raw(t, nil)
		send(t, y, m, msg(nil, typeWindow, flagSYN, 1, 0))
		s, err := m.AcceptStream()
		if err != nil {
			t.Fatal(err)
		}
		send(t, y, m, append(msg(nil, typeData, flagFIN, 1, 5), "hello"...))
		then(m, y)
		if got, err := io.ReadAll(s); string(got) != "hello" || err != nil {
			t.Errorf("%s: got %q and %v, want all and no error", name, got, err)
		}
		s.Reset()
	}
}

// countingScope is a peer's scope that allows so many bytes.
type countingScope struct {
	network.NullScope
	free, spans atomic.Int64
}

// BeginSpan implements network.ResourceScope.
func (c *countingScope) BeginSpan() (network.ResourceScopeSpan, error) {
	c.spans.Add(1)
	return &countingSpan{c: c}, nil
}

type countingSpan struct {
	network.NullScope
	c    *countingScope
	n    int64
	done bool
}

// ReserveMemory implements network.ResourceScope.
func (s *countingSpan) ReserveMemory(n int, _ uint8) error {
	if s.c.free.Add(-int64(n)) < 0 {
		s.c.free.Add(int64(n))
		return network.ErrResourceLimitExceeded
	}
	s.n += int64(n)
	return nil
}

// ReleaseMemory implements network.ResourceScope.
func (s *countingSpan) ReleaseMemory(n int) {
	s.n -= int64(n)
	s.c.free.Add(int64(n))
}

// Done implements network.ResourceScopeSpan.
func (s *countingSpan) Done() {
	if !s.done {
		s.done = true
		s.c.spans.Add(-1)
		s.c.free.Add(s.n)
	}
}

// TestReserves: each stream's first window is reserved, what does not fit is
// reset, and all is given back, however a stream ends.
func TestReserves(t *testing.T) {
	const fit = 6
	scope := &countingScope{}
	scope.free.Store(fit * FirstWindow)
	m, y := raw(t, scope)
	var b []byte
	for i := range uint32(fit + 2) {
		b = msg(b, typeWindow, flagSYN, 2*i+1, 0)
	}
	send(t, y, m, b)
	if got := len(m.accepted); got != fit {
		t.Fatalf("%d streams, want %d", got, fit)
	}
	if _, err := m.OpenStream(t.Context()); !errors.Is(err, network.ErrResourceLimitExceeded) {
		t.Errorf("got %v, want no memory", err)
	}
	send(t, y, m, msg(msg(nil, typeWindow, flagRST, 11, 0), typeWindow, flagRST, 9, 0)) // not accepted yet
	for i := range 3 {
		s, err := m.AcceptStream()
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0:
			s.Reset()
		case 1:
			s.Close()
		case 2:
			s.CloseWrite()
			s.CloseRead()
		}
	}
	if got, want := scope.free.Load(), int64(fit-1)*FirstWindow; got != want {
		t.Errorf("%d bytes are free, want %d", got, want)
	}
	m.end(io.EOF)
	if got, want := scope.free.Load(), int64(fit*FirstWindow); got != want || scope.spans.Load() != 0 {
		t.Errorf("%d bytes are free behind the connection and %d spans left, want %d and 0", got, scope.spans.Load(), want)
	}
}

// TestShrinks: a circuit's window is halved when it stands full though it is
// read and memory is short, and no smaller than a stream's first one.
func TestShrinks(t *testing.T) {
	m, y := raw(t, nil)
	var room countingRoom
	send(t, y, m, msg(nil, typeWindow, flagSYN, 1, 0))
	x, err := m.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	s := x.(*Stream)
	s.Count(&room)
	s.Open()
	if s.owed != OpenWindow || s.target != OpenWindow {
		t.Fatalf("a circuit's window is %d, want %d", s.owed, OpenWindow)
	}
	message := append(msg(nil, typeData, 0, 1, wire.FrameSize), make([]byte, wire.FrameSize)...)
	fill := func() {
		var b []byte
		for owed := s.owed; owed >= wire.FrameSize; owed -= wire.FrameSize {
			b = append(b, message...)
		}
		send(t, y, m, b)
	}
	fill()
	p := make([]byte, wire.FrameSize)
	for range 10 {
		io.ReadFull(s, p)
	}
	if s.target != OpenWindow {
		t.Errorf("with room the window became %d, want %d", s.target, OpenWindow)
	}
	room.scarce.Store(true)
	for range 10 {
		io.ReadFull(s, p)
	}
	if s.target != FirstWindow || s.owed >= wire.FrameSize {
		t.Errorf("the window is %d with %d to come, want %d and nothing", s.target, s.owed, FirstWindow)
	}
	for len(s.segs) > 0 {
		io.ReadFull(s, p)
	}
	if s.owed < FirstWindow/2 || s.owed > FirstWindow {
		t.Errorf("%d bytes may come when all was read, want about %d", s.owed, FirstWindow)
	}
}

// FuzzHead: what can be read is written as the same bytes.
func FuzzHead(f *testing.F) {
	f.Add(msg(nil, typeData, flagFIN, 1, 3))
	f.Add(msg(nil, typeGoAway, 0, 0, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headSize {
			return
		}
		h, err := parseHead(b)
		if err != nil {
			return
		}
		if got := h.append(nil); string(got) != string(b[:headSize]) {
			t.Errorf("got % x, want % x", got, b[:headSize])
		}
	})
}
