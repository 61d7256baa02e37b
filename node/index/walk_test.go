package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

func walkOf(word string, id byte, on bool) walkRequest {
	w := newWalkRequest(walkID{id}, all(word))
	w.On = on
	return w
}

func serverAnswer(t testing.TB, s *Server, from wire.NodeID, w walkRequest) walkAnswer {
	t.Helper()
	b, err := s.Answer(t.Context(), from, w.encode())
	if err != nil {
		t.Fatal(err)
	}
	a, err := parseWalked(b)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestWalkTellsNobody: all walking queries of many searches have one length
// and hold no NodeID, neither of the far end nor of anybody on the way, nor
// what such an id is hashed to without the query's own id.
func TestWalkTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 1))
		n := newWanderNet(rng)
		n.keep = true
		wanderTries(t, n, rng, 20, true, 0)
		if len(n.requests) < 50 {
			t.Fatalf("got %d walking queries, want many", len(n.requests))
		}
		for _, req := range n.requests {
			if len(req) != walkLength {
				t.Fatalf("got a query of %d bytes, want %d", len(req), walkLength)
			}
			for _, id := range n.ids {
				for at := 0; at+8 <= len(id); at += 8 {
					if bytes.Contains(req, id[at:at+8]) {
						t.Fatal("a walking query holds a part of a NodeID")
					}
				}
			}
		}
		// Two queries remember one node differently.
		if (walkID{1}).tag(n.ids[0]) == (walkID{2}).tag(n.ids[0]) {
			t.Error("two queries show that they were at one node")
		}
	})
}

// TestWalkIsNotRepeated: a query that comes by again is sent away at once, and
// what is remembered of queries does not grow.
func TestWalkIsNotRepeated(t *testing.T) {
	r := newTestRouter(t, 1, StoreConfig{})
	c := newClock()
	s := NewServer(ServerConfig{Holder: r.stores[r.nodes[0]], Router: r, Self: r.nodes[0], Network: testNet, Recent: 100, Now: c.now})
	from := wire.NodeID{9}
	if a := serverAnswer(t, s, from, walkOf("w", 1, true)); a.Status != walkNothing || !a.Open {
		t.Errorf("first: got %+v, want nothing, and that it may go on", a)
	}
	if a := serverAnswer(t, s, wire.NodeID{8}, walkOf("w", 1, true)); a.Status != walkSeen {
		t.Errorf("again: got status %d, want seen", a.Status)
	}
	c.add(2 * time.Minute)
	if a := serverAnswer(t, s, from, walkOf("w", 1, true)); a.Status != walkNothing {
		t.Errorf("much later: got status %d, want nothing", a.Status)
	}
	m := newRecentWalks(100, time.Minute)
	for i := range 10_000 {
		var id walkID
		binary.BigEndian.PutUint32(id[:], uint32(i))
		if !m.first(id, c.now()) {
			t.Fatalf("query %d is not new", i)
		}
		if m.first(id, c.now()) {
			t.Fatalf("query %d is new twice", i)
		}
	}
	if len(m.seen) != 100 || len(m.ring) != 100 {
		t.Errorf("got %d and %d queries remembered, want 100", len(m.seen), len(m.ring))
	}
}

// TestWalkGoesOn: a super node passes a query on only while it has steps left,
// never back and never where it was.
func TestWalkGoesOn(t *testing.T) {
	r := newTestRouter(t, 5, StoreConfig{})
	near := r.Known(keysOf("w").addr, 5)
	putTo(t, r.stores[near[4]], postings(t, "w", 1, q1h())...)
	first := r.server[near[0]]
	ask := func(id byte, on bool, asked ...wire.NodeID) (walkAnswer, int64) {
		w := walkOf("w", id, on)
		for all := false; !all; w.ID[1]++ { // none is to take another's place
			for _, n := range asked {
				w = w.remember(n)
			}
			all = !slices.ContainsFunc(asked, func(n wire.NodeID) bool { return !w.was(n) })
			if all {
				break
			}
		}
		before := r.asks.Load()
		a := serverAnswer(t, first, near[3], w)
		return a, r.asks.Load() - before
	}
	if a, asks := ask(1, false); a.Status != walkNothing || asks != 0 || a.Open {
		t.Errorf("no step left: got status %d after %d requests, want none", a.Status, asks)
	}
	if a, asks := ask(2, true, near[1], near[2], near[4]); a.Status != walkNothing || asks != 0 || !a.Open {
		t.Errorf("all asked but where it came from: got status %d after %d requests", a.Status, asks)
	}
	if a, asks := ask(3, true, near[1], near[2]); a.Status != walkFound || asks != 1 || len(a.Got.Records) != 1 {
		t.Errorf("one to ask: got status %d after %d requests, want found after 1", a.Status, asks)
	}
	r.kill(near[4])
	if a, asks := ask(4, true, near[1], near[2]); a.Status != walkNothing || asks != 0 || !a.Open {
		t.Errorf("it is dead: got status %d after %d requests, may go on %v", a.Status, asks, a.Open)
	}
}

// TestWalkLiars: what a super node on the way invents does not end a walk.
func TestWalkLiars(t *testing.T) {
	r := newTestRouter(t, 13, StoreConfig{})
	a := newAsker(r)
	near := r.Known(keysOf("truth").addr, 13)
	it := item("truth")
	b, _ := NewBatch(testNet)
	recs, _ := b.Postings(it, q1h())
	putTo(t, r.stores[near[12]], recs...)
	forged := Record{slices.Clone(postings(t, "truth", 1, q1h())[0].b)}
	forged.b[len(forged.b)-1] ^= 1
	other := postings(t, "other", 1, q1h())[0]
	lies := [][]byte{
		walkAnswer{Status: walkFound, Got: getAnswer{Records: []Record{forged}}}.encode(),
		walkAnswer{Status: walkFound, Got: getAnswer{Records: []Record{other}}}.encode(),
		walkAnswer{Status: walkNothing}.encode(),
		[]byte("nonsense"),
	}
	r.mu.Lock()
	for i, lie := range lies {
		id := near[8+i]
		r.lies[id] = func(req []byte) ([]byte, error) {
			if req[1] == opWalk {
				return lie, nil
			}
			return getAnswer{}.encode(), nil
		}
	}
	r.mu.Unlock()
	var got []chunk.Result
	for range 3 { // each step may be a walk's last: one search in a hundred finds nothing
		before := r.asks.Load()
		got = search(t, a, "truth")
		if asks := r.asks.Load() - before; asks > 8+4*(10*7) {
			t.Errorf("liars cost %d requests", asks)
		}
		if len(got) > 0 {
			break
		}
	}
	if len(got) != 1 || got[0].Ref != it.Ref {
		t.Errorf("got %d rows, want the true one", len(got))
	}
}

// TestServerShares: a neighbour that floods is refused, others are not, and
// refusing takes no more memory than it may.
func TestServerShares(t *testing.T) {
	c := newClock()
	r := newTestRouter(t, 1, StoreConfig{})
	self := r.nodes[0]
	s := NewServer(ServerConfig{
		Holder: r.stores[self], Router: r, Self: self, Network: testNet, Now: c.now,
		Reads: Share{PerSecond: 1, Burst: 10}, Writes: Share{PerSecond: 1, Burst: 10},
	})
	flood := func(from wire.NodeID, req []byte, n int) (served int) {
		for range n {
			if _, err := s.Answer(t.Context(), from, req); err == nil {
				served++
			} else if !errors.Is(err, ErrBusy) {
				t.Fatal(err)
			}
		}
		return served
	}
	get, put := all("w").encode(), encodePut(postings(t, "w", 4, q1h()))
	for _, tc := range []struct {
		name string
		from wire.NodeID
		req  []byte
		want int
	}{
		{"gets", wire.NodeID{1}, get, 10}, {"records", wire.NodeID{1}, put, 2},
		{"another's gets", wire.NodeID{2}, get, 10}, {"its own gets", self, get, 30},
	} {
		if got := flood(tc.from, tc.req, 30); got != tc.want {
			t.Errorf("%s: got %d of 30 served, want %d", tc.name, got, tc.want)
		}
	}
	c.add(3 * time.Second)
	if got := flood(wire.NodeID{1}, get, 30); got != 3 {
		t.Errorf("three seconds later: got %d served, want 3", got)
	}
	for i := range 2 * maxShares {
		var id wire.NodeID
		binary.BigEndian.PutUint32(id[:], uint32(i))
		s.reads.take(id, 1, c.now())
	}
	if got := len(s.reads.used); got > maxShares {
		t.Errorf("got %d neighbours remembered, want at most %d", got, maxShares)
	}
	for _, req := range [][]byte{nil, {1, opWalk}, make([]byte, walkLength)} {
		if _, err := s.Answer(context.Background(), self, req); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("malformed: got %v, want ErrMalformed", err)
		}
	}
}

func TestWalkRefusesBadBytes(t *testing.T) {
	w := walkOf("w", 1, true)
	w = w.remember(wire.NodeID{1})
	good := w.encode()
	if _, err := parseWalk(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"version":     func(b []byte) []byte { b[0]++; return b },
		"on":          func(b []byte) []byte { b[2] = 2; return b },
		"get":         func(b []byte) []byte { b[walkHead+1] = opPut; return b },
		"short":       func(b []byte) []byte { return b[:len(b)-1] },
		"trailing":    func(b []byte) []byte { return append(b, 0) },
		"no get":      func(b []byte) []byte { return b[:walkHead] },
		"empty bytes": func([]byte) []byte { return nil },
	} {
		if _, err := parseWalk(change(bytes.Clone(good))); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", name, err)
		}
	}
	for _, b := range [][]byte{
		nil, {1, opWalk | opAnswer, 0}, {1, opWalk | opAnswer, 3, 0}, {1, opWalk | opAnswer, 0, 2},
		{1, opWalk | opAnswer, byte(walkSeen), 1}, {1, opWalk | opAnswer, 0, 0, 0},
		walkAnswer{Status: walkFound}.encode(),
	} {
		if _, err := parseWalked(b); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("answer % x: got %v, want ErrMalformed", b, err)
		}
	}
	more := w.remember(wire.NodeID{2})
	if !more.was(wire.NodeID{2}) || w.was(wire.NodeID{2}) || len(more.encode()) != len(w.encode()) {
		t.Error("a node is not remembered, or in another request too")
	}
}

func FuzzWalk(f *testing.F) {
	w := walkOf("w", 1, true)
	w = w.remember(wire.NodeID{1})
	f.Add(w.encode())
	f.Add(walkAnswer{Status: walkFound, Got: getAnswer{Records: postings(f, "w", 2, q1h())}}.encode())
	f.Add(walkAnswer{Status: walkNothing, Open: true}.encode())
	f.Add(walkAnswer{Status: walkSeen}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, err := parseWalk(b); err == nil && !bytes.Equal(w.encode(), b) {
			t.Error("a walking query changes when encoded again")
		}
		if a, err := parseWalked(b); err == nil && !bytes.Equal(a.encode(), b) {
			t.Error("an answer changes when encoded again")
		}
	})
}
