package relay_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	mrand "math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newNet(t testing.TB, cfg relaytest.Config) *relaytest.Net {
	t.Helper()
	n, err := relaytest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func build(t testing.TB, n *relaytest.Net, hops ...int) *relay.Path {
	t.Helper()
	b := n.Builder()
	b.Dead = 30 * time.Second // a busy machine is not the matter here
	p, err := b.Build(testContext(t), n.Hops(hops...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// way is a reader and a publisher who meet at a gateway.
type way struct {
	s      *relay.Session
	join   [32]byte
	pub    *relay.Path
	read   *relay.Path
	listen *relay.Listener
}

// standing makes a session listen at the last of the hops.
func standing(t testing.TB, n *relaytest.Net, hops ...int) *way {
	t.Helper()
	w := &way{}
	var err error
	if w.s, err = relay.NewSession(); err != nil {
		t.Fatal(err)
	}
	rand.Read(w.join[:])
	w.pub = build(t, n, hops...)
	if w.listen, err = w.pub.Listen(testContext(t), w.s, w.join); err != nil {
		t.Fatal(err)
	}
	return w
}

// meet joins and accepts one stream.
func (w *way) meet(t testing.TB, first []byte) (reader, publisher *relay.Conn) {
	t.Helper()
	type got struct {
		c   *relay.Conn
		err error
	}
	ch := make(chan got, 1)
	ctx := testContext(t)
	go func() {
		c, err := w.listen.Accept(ctx)
		ch <- got{c, err}
	}()
	r, err := w.read.Join(ctx, w.s.Keys(), w.join, first)
	if err != nil {
		t.Fatal(err)
	}
	g := <-ch
	if g.err != nil {
		t.Fatal(g.err)
	}
	return r, g.c
}

func sixRelays(t testing.TB, n *relaytest.Net) *way {
	t.Helper()
	w := standing(t, n, 5, 4, 3)
	w.read = build(t, n, 0, 1, 2, 3)
	return w
}

// pour writes size bytes of a seeded stream and its end; drain checks them.
func pour(c *relay.Conn, seed uint64, size int) error {
	src := mrand.NewChaCha8([32]byte{byte(seed)})
	rng := mrand.New(mrand.NewPCG(seed, 1))
	b := make([]byte, 100_000)
	for size > 0 {
		p := b[:8*min((size+7)/8, 1+rng.IntN(len(b)/8))] // whole words, as ChaCha8 counts
		src.Read(p)
		n, err := c.Write(p[:min(len(p), size)])
		if err != nil {
			return err
		}
		size -= n
	}
	return c.CloseWrite()
}

func drain(t testing.TB, c *relay.Conn, seed uint64, size int) {
	t.Helper()
	src := mrand.NewChaCha8([32]byte{byte(seed)})
	got, want := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := 0; at < size; {
		n, err := io.ReadFull(c, got[:min(len(got), size-at)])
		if err != nil {
			t.Errorf("read at %d: %v", at, err)
			return
		}
		src.Read(want[:n])
		if !bytes.Equal(got[:n], want[:n]) {
			t.Errorf("bytes differ after %d", at)
			return
		}
		at += n
	}
	if n, err := c.Read(got); n != 0 || err != io.EOF {
		t.Errorf("at the end: got %d bytes and %v, want io.EOF", n, err)
	}
}

func TestWholeWay(t *testing.T) {
	n := newNet(t, relaytest.Config{Observe: true})
	w := sixRelays(t, n)
	r, p := w.meet(t, []byte("first request"))
	if got, want := string(p.First()), "first request"; got != want {
		t.Errorf("First: got %q, want %q", got, want)
	}
	const up, down = 2 << 20, 17 << 20
	errs := make(chan error, 2)
	go func() { errs <- pour(r, 1, up) }()
	go func() { errs <- pour(p, 2, down) }()
	done := make(chan struct{})
	go func() { defer close(done); drain(t, p, 1, up) }()
	drain(t, r, 2, down)
	<-done
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	r.Close()
	p.Close()
	for size := range n.Observer().Sizes() {
		if size != 16368 {
			t.Errorf("a frame has %d bytes", size)
		}
	}
	var sum uint64
	for i := range 6 {
		sum += n.Relay(i).Stats().Bytes
	}
	if got, want := float64(sum), float64(6*(up+down)); got < want*0.97 || got > want*1.05 {
		t.Errorf("relays carried %.0f bytes, want about %.0f", got, want)
	}
}

// fast lifts the limits that a benchmark or a crowded test meets.
var fast = relay.Limits{Creates: 1e6, PerTarget: 1e6, Joins: 1e6}

// TestObserver: no relay knows more than its neighbours, and none sees what is
// carried.
func TestObserver(t *testing.T) {
	n := newNet(t, relaytest.Config{Observe: true})
	w := sixRelays(t, n)
	secret := []byte("what nobody between may read")
	r, p := w.meet(t, secret)
	r.Write(secret)
	p.Write(secret)
	got := make([]byte, len(secret))
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatal(err)
	}
	number, keys := w.s.Number(), w.s.Keys()
	for _, b := range [][]byte{secret, number[:], keys.Sign[:], keys.Key[:], w.join[:]} {
		if n.Observer().Contains(b) {
			t.Errorf("%d bytes that must not be seen are on a link", len(b))
		}
	}
	for i, d := range n.Hops(0, 1, 2, 3, 4, 5) {
		if got, want := len(n.Observer().Neighbours(d.Node)), 2; got != want {
			t.Errorf("relay %d: got %d neighbours, want %d", i, got, want)
		}
	}
	r.Close()
	p.Close()
}

// TestPositions: what a relay sends and gets does not depend on where it
// stands: the same number of frames of the same size, but for the set-up.
func TestPositions(t *testing.T) {
	n := newNet(t, relaytest.Config{Observe: true, Far: func(int) relay.Far { return echo{} }})
	p := build(t, n, 0, 1, 2, 3)
	before := make([][2]int, 4)
	hops := n.Hops(0, 1, 2, 3)
	count := func(i int) [2]int {
		return [2]int{n.Observer().Writes(hops[i].Node, hops[i+1].Node), n.Observer().Writes(hops[i+1].Node, hops[i].Node)}
	}
	for i := range 3 {
		before[i] = count(i)
	}
	for range 5 {
		if _, err := p.Ask(testContext(t), make([]byte, 50_000)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		got := count(i)
		for dir := range 2 { // 50 000 bytes are 4 cells; a sign of life may be among them
			if d := got[dir] - before[i][dir]; d < 20 || d > 25 {
				t.Errorf("link %d, direction %d: %d frames, want 20", i, dir, d)
			}
		}
	}
}
