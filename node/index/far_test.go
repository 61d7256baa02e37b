package index

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

// TestReplicas: a record is kept by the 8 nearest super nodes and by no other,
// and one request a super node carries all of them.
func TestReplicas(t *testing.T) {
	r := newTestRouter(t, 20, StoreConfig{})
	publish(t, newAsker(r), item("one"))
	near, _ := r.Nearest(t.Context(), keysOf("one").addr, 8)
	for id, s := range r.stores {
		want := int64(0)
		if slices.Contains(near, id) {
			want = 1
		}
		if got := s.Stats().Records; got != want {
			t.Errorf("a store holds %d records, want %d", got, want)
		}
	}
	r = newTestRouter(t, 5, StoreConfig{})
	publish(t, newAsker(r), item("a1 b2 c3 d4 e5 f6 g7 h8"))
	if got := r.asks.Load(); got != 5 {
		t.Errorf("got %d requests for 8 records at 5 super nodes, want 5", got)
	}
}

// TestFirstThenAll: three super nodes are asked while they agree, all eight
// when they do not.
func TestFirstThenAll(t *testing.T) {
	r := newTestRouter(t, 10, StoreConfig{})
	f := NewFar(FarConfig{Router: r, Network: testNet, Widen: time.Hour, WalkAfter: time.Hour, Walkers: -1})
	a := &farAsker{f: f}
	publish(t, a, item("agreed"))
	ask := func() (asked int64, found int) {
		before := r.asks.Load()
		found = len(search(t, a, "agreed"))
		return r.asks.Load() - before, found
	}
	if asked, found := ask(); asked != 3 || found != 1 {
		t.Errorf("in agreement: %d asked, %d found, want 3, 1", asked, found)
	}
	near, _ := r.Nearest(t.Context(), keysOf("agreed").addr, 8)
	putTo(t, r.stores[near[7]], postings(t, "agreed", 1, q1h())...)
	if asked, _ := ask(); asked != 3 {
		t.Errorf("still in agreement: %d asked, want 3", asked)
	}
	putTo(t, r.stores[near[1]], postings(t, "agreed", 2, q1h())[1:]...)
	if asked, found := ask(); asked != 8 || found != 3 {
		t.Errorf("in disagreement: %d asked, %d found, want 8, 3", asked, found)
	}
	if asked, found := func() (int64, int) {
		b := r.asks.Load()
		n := len(search(t, a, "unknown"))
		return r.asks.Load() - b, n
	}(); asked != 8 || found != 0 {
		t.Errorf("unknown word: %d asked, %d found, want 8, 0", asked, found)
	}
}

// TestLyingSuperNodes: of eight, three lie in their own ways.
func TestLyingSuperNodes(t *testing.T) {
	r := newTestRouter(t, 10, StoreConfig{})
	a := newAsker(r)
	it := item("truth")
	publish(t, a, it)
	near, _ := r.Nearest(t.Context(), keysOf("truth").addr, 8)
	fakes := postings(t, "truth", 200, q1h())
	for i := range fakes { // signatures do not hold
		fakes[i] = Record{slices.Clone(fakes[i].b)}
		fakes[i].b[len(fakes[i].b)-1] ^= 1
	}
	other := postings(t, "other", 1, q1h())
	r.mu.Lock()
	r.lies[near[0]] = func([]byte) ([]byte, error) {
		return getAnswer{Records: fakes, More: true, Next: fakes[0].id()}.encode(), nil
	}
	r.lies[near[1]] = func([]byte) ([]byte, error) { return getAnswer{Records: other}.encode(), nil }
	r.lies[near[2]] = func([]byte) ([]byte, error) { return []byte("nonsense"), nil }
	r.mu.Unlock()
	res := search(t, a, "truth")
	if len(res) != 1 || res[0].Ref != it.Ref || res[0].Sources != 1 {
		t.Errorf("got %d rows, want the true one", len(res))
	}
}

// TestLyingGroup: a forged group record with a high number hides nothing.
func TestLyingGroup(t *testing.T) {
	r := newTestRouter(t, 8, StoreConfig{})
	a := newAsker(r)
	g, _ := NewGroup(testNet)
	ref := item("x").Ref
	p, _ := g.Pointer(ref, q1h())
	s, _ := g.Seal(source(5), 1, q1h())
	if err := Put(t.Context(), a, []Record{p, s}); err != nil {
		t.Fatal(err)
	}
	evil, _ := NewGroup(testNet)
	forged := newRecord(testNet, GroupInfo, 0, g.Address(), q1h(), 99, [2]byte{}, nil, s.sealed(), evil.writeKey())
	near, _ := r.Nearest(t.Context(), g.Address(), 8)
	for _, id := range near[:3] {
		s := r.stores[id]
		r.mu.Lock()
		r.lies[id] = func(req []byte) ([]byte, error) {
			if q, err := parseGet(req); err == nil && q.Kind == GroupInfo {
				return getAnswer{Records: []Record{forged}}.encode(), nil
			}
			return s.Answer(context.Background(), req)
		}
		r.mu.Unlock()
	}
	got, err := Find(t.Context(), testNet, a, ref)
	if err != nil || len(got) != 1 || string(got[0]) != string(source(5)) {
		t.Errorf("got %d sources, %v, want the owner's", len(got), err)
	}
}

// TestSearchPages: 900 postings of one word come over several pages, each
// replica holding another part of them.
func TestSearchPages(t *testing.T) {
	r := newTestRouter(t, 3, StoreConfig{})
	a := newAsker(r)
	recs := postings(t, "many", 900, q1h())
	for i, id := range r.nodes {
		for part := range slices.Chunk(recs[i*150:i*150+600], 300) {
			putTo(t, r.stores[id], part...)
		}
	}
	q, _ := ParseQuery("many")
	pages, last := 0, 0
	res, err := SearchEach(t.Context(), testNet, a, q, func(rows []chunk.Result) {
		if pages++; len(rows) <= last {
			t.Errorf("page %d brings nothing new", pages)
		}
		last = len(rows)
	})
	if err != nil || len(res) != 900 {
		t.Errorf("got %d results, %v, want 900", len(res), err)
	}
	if pages == 0 {
		t.Errorf("no page came before the end")
	}
	q.Limit = 10
	if res, err := Search(t.Context(), testNet, a, q); err != nil || len(res) != 10 {
		t.Errorf("got %d results, %v, want 10", len(res), err)
	}
}

func TestSearchChecksNames(t *testing.T) {
	r := newTestRouter(t, 3, StoreConfig{})
	a := newAsker(r)
	// Filed under a word that its name does not hold.
	b, _ := NewBatch(testNet)
	k := keysOf("popular")
	plain, form, _ := encodeBody(item("spam"), sourceMark{}, 1)
	nonce := mac(k.nonce, plain)
	sealed := sealWith(nil, k.seal, [nonceSize]byte(nonce[:nonceSize]), plain, []byte(labelWord))
	rec := newRecord(testNet, Posting, form, k.addr, q1h(), 0, [2]byte{}, tagList(k, "popular", []string{"song"}, form, plain), sealed, b.key)
	if err := Put(t.Context(), a, []Record{rec}); err != nil {
		t.Fatal(err)
	}
	if got := search(t, a, "popular"); len(got) != 0 {
		t.Errorf("a posting filed under a foreign word is shown")
	}
	if got := search(t, a, "popular song"); len(got) != 0 {
		t.Errorf("a posting with a foreign tag is shown")
	}
}

// failRouter finds nobody.
type failRouter struct{}

func (failRouter) Nearest(context.Context, [32]byte, int) ([]wire.NodeID, error) {
	return nil, errors.New("nobody")
}
func (failRouter) Known([32]byte, int) []wire.NodeID { return nil }
func (failRouter) Reach(context.Context, wire.NodeID) error {
	return errors.New("nobody")
}
func (failRouter) Ask(context.Context, wire.NodeID, []byte) ([]byte, error) {
	return nil, errors.New("nobody")
}

func TestFarAlone(t *testing.T) {
	a := newAsker(failRouter{})
	if err := Put(t.Context(), a, postings(t, "w", 1, q1h())); !errors.Is(err, ErrNotStored) {
		t.Errorf("Put: got %v, want ErrNotStored", err)
	}
	q, _ := ParseQuery("w")
	if _, err := Search(t.Context(), testNet, a, q); err == nil {
		t.Errorf("Search: got no error")
	}
	if _, err := Find(t.Context(), testNet, a, item("w").Ref); err == nil {
		t.Errorf("Find: got no error")
	}
	for _, req := range [][]byte{nil, {1}, {1, 77}, {1, opGet, 1}} {
		if _, err := a.Ask(t.Context(), req); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("malformed: got %v, want ErrMalformed", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Search(ctx, testNet, newAsker(newTestRouter(t, 3, StoreConfig{})), q); err == nil {
		t.Errorf("cancelled: got no error")
	}
}

// TestSlowSuperNodes: those that hang cost no more than the waits.
func TestSlowSuperNodes(t *testing.T) {
	r := newTestRouter(t, 8, StoreConfig{})
	a := &farAsker{f: NewFar(FarConfig{Router: r, Network: testNet, Ask: time.Hour, Widen: 20 * time.Millisecond, Grace: 20 * time.Millisecond})}
	near, _ := r.Nearest(t.Context(), keysOf("slow").addr, 8)
	r.kill(near[0], near[2], near[5])
	publish(t, a, item("slow")) // returns once most keep it
	if got := search(t, a, "slow"); len(got) != 1 {
		t.Errorf("got %d rows, want 1", len(got))
	}
}

// TestExpiredIsNotTaken: a super node that shows what has ended is not
// believed, signed as it may be.
func TestExpiredIsNotTaken(t *testing.T) {
	g, _ := NewGroup(testNet)
	ref, past := item("x").Ref, time.Now().Add(-time.Minute)
	pointer, _ := g.Pointer(ref, q1h())
	dead, _ := g.Pointer(ref, past)
	sealed, _ := g.Seal(source(1), 1, past)
	show := func(p Record) asker {
		return func(req []byte) ([]byte, error) {
			q, err := parseGet(req)
			if err != nil {
				return nil, err
			}
			if q.Kind == Pointer {
				return getAnswer{Records: []Record{p}}.encode(), nil
			}
			return getAnswer{Records: []Record{sealed}}.encode(), nil
		}
	}
	for _, p := range []Record{pointer, dead} {
		if got, err := Find(t.Context(), testNet, show(p), ref); err != nil || len(got) != 0 {
			t.Errorf("got %d sources, %v, want none", len(got), err)
		}
	}
}

// asker answers by itself.
type asker func(req []byte) ([]byte, error)

func (a asker) Ask(_ context.Context, req []byte) ([]byte, error) { return a(req) }

// TestHostileFar: no answer of a far end makes an asker fail otherwise than
// with an error, or run on for ever.
func TestHostileFar(t *testing.T) {
	q, _ := ParseQuery("many words")
	asks := 0
	endless := asker(func([]byte) ([]byte, error) {
		asks++
		return getAnswer{More: true, Next: recordID{byte(asks)}}.encode(), nil
	})
	if res, err := Search(t.Context(), testNet, endless, q); err != nil || len(res) != 0 || asks > maxPages {
		t.Errorf("endless pages: got %d rows, %v, %d asks", len(res), err, asks)
	}
	for _, ans := range [][]byte{nil, {1}, make([]byte, MaxMessage+1), encodeCopies(0, nil)} {
		a := asker(func([]byte) ([]byte, error) { return ans, nil })
		if _, err := Search(t.Context(), testNet, a, q); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("Search: got %v, want ErrMalformed", err)
		}
		if _, err := Find(t.Context(), testNet, a, item("x").Ref); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("Find: got %v, want ErrMalformed", err)
		}
		if err := Put(t.Context(), a, postings(t, "w", 1, q1h())); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("Put: got %v, want ErrMalformed", err)
		}
	}
	if _, err := Search(t.Context(), testNet, endless, Query{}); !errors.Is(err, ErrQuery) {
		t.Errorf("zero Query: got %v, want ErrQuery", err)
	}
}
