package index

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testNet = "test-net"

// testRouter is a network of Stores with real database files. Nearest goes by
// XOR distance, as a DHT does.
type testRouter struct {
	mu     sync.Mutex
	nodes  []wire.NodeID
	stores map[wire.NodeID]*Store
	server map[wire.NodeID]*Server
	dead   map[wire.NodeID]bool // asks hang until their deadline
	lies   map[wire.NodeID]func(req []byte) ([]byte, error)
	asks   atomic.Int64
}

func newTestRouter(t testing.TB, n int, cfg StoreConfig) *testRouter {
	t.Helper()
	dir := t.TempDir()
	r := &testRouter{server: map[wire.NodeID]*Server{}, stores: map[wire.NodeID]*Store{}, dead: map[wire.NodeID]bool{}, lies: map[wire.NodeID]func([]byte) ([]byte, error){}}
	for i := range n {
		c := cfg
		c.Network = testNet
		c.Path = filepath.Join(dir, fmt.Sprintf("index-%d.db", i))
		s, err := OpenStore(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		id := wire.NodeID(mac([32]byte{}, []byte{byte(i), byte(i >> 8)}))
		r.nodes = append(r.nodes, id)
		r.stores[id] = s
		r.server[id] = NewServer(ServerConfig{Holder: s, Router: r, Self: id, Network: testNet, Reach: 50 * time.Millisecond})
	}
	return r
}

func (r *testRouter) Nearest(_ context.Context, key [32]byte, n int) ([]wire.NodeID, error) {
	return r.Known(key, n), nil
}

func (r *testRouter) Known(key [32]byte, n int) []wire.NodeID {
	nodes := slices.Clone(r.nodes)
	slices.SortFunc(nodes, func(a, b wire.NodeID) int {
		for i := range key {
			if c := cmp.Compare(a[i]^key[i], b[i]^key[i]); c != 0 {
				return c
			}
		}
		return 0
	})
	return nodes[:min(n, len(nodes))]
}

func (r *testRouter) Reach(ctx context.Context, to wire.NodeID) error {
	r.mu.Lock()
	dead := r.dead[to]
	r.mu.Unlock()
	if dead {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (r *testRouter) Ask(ctx context.Context, to wire.NodeID, req []byte) ([]byte, error) {
	r.asks.Add(1)
	r.mu.Lock()
	dead, lie, s := r.dead[to], r.lies[to], r.server[to]
	r.mu.Unlock()
	if dead {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if lie != nil {
		return lie(req)
	}
	return s.Answer(ctx, wire.NodeID{}, req)
}

func (r *testRouter) kill(ids ...wire.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		r.dead[id] = true
	}
}

// farAsker is a path to a Far, without the path.
type farAsker struct {
	f    *Far
	asks atomic.Int64
}

func (a *farAsker) Ask(ctx context.Context, req []byte) ([]byte, error) {
	a.asks.Add(1)
	b, err := a.f.Answer(ctx, req)
	if len(b) > MaxMessage {
		return nil, errors.New("answer too long")
	}
	return b, err
}

func newAsker(r Router) *farAsker {
	return &farAsker{f: NewFar(FarConfig{Router: r, Network: testNet, Ask: 300 * time.Millisecond, Widen: 50 * time.Millisecond, Grace: 50 * time.Millisecond})}
}

func item(name string) Item {
	return Item{Name: name, Ref: chunk.Raw([]byte(name)), Kind: chunk.File, Size: int64(1000 + len(name))}
}

// put publishes the postings of it in a batch and returns them.
func put(t testing.TB, a Asker, b *Batch, it Item) []Record {
	t.Helper()
	recs, err := b.Postings(it, time.Now().Add(PostingLife))
	if err != nil {
		t.Fatal(err)
	}
	if err := Put(t.Context(), a, recs); err != nil {
		t.Fatal(err)
	}
	return recs
}

func publish(t testing.TB, a Asker, items ...Item) {
	t.Helper()
	for _, it := range items {
		b, err := NewBatch(testNet)
		if err != nil {
			t.Fatal(err)
		}
		put(t, a, b, it)
	}
}

func search(t testing.TB, a Asker, s string) []chunk.Result {
	t.Helper()
	q, err := ParseQuery(s)
	if err != nil {
		t.Fatal(err)
	}
	res, err := Search(t.Context(), testNet, a, q)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func names(res []chunk.Result) []string {
	var out []string
	for _, r := range res {
		out = append(out, r.Name)
	}
	slices.Sort(out)
	return out
}

func source(fill byte) []byte { return bytes.Repeat([]byte{fill}, wire.SourceSize) }

func TestPublishAndSearch(t *testing.T) {
	r := newTestRouter(t, 12, StoreConfig{})
	a := newAsker(r)
	publish(t, a,
		item("Miles Davis - Kind of Blue.flac"),
		item("Miles Away.mp3"),
		item("Café de l'Opéra (1962) 7.mkv"),
		item("東京物語 1953.mkv"),
	)
	for _, c := range []struct {
		query string
		want  []string
	}{
		{"miles", []string{"Miles Away.mp3", "Miles Davis - Kind of Blue.flac"}},
		{"BLUE miles", []string{"Miles Davis - Kind of Blue.flac"}},
		{"cafe opera", []string{"Café de l'Opéra (1962) 7.mkv"}},
		{"lopera", []string{"Café de l'Opéra (1962) 7.mkv"}},
		{"7", []string{"Café de l'Opéra (1962) 7.mkv"}},
		{"東京", []string{"東京物語 1953.mkv"}},
		{"東", []string{"東京物語 1953.mkv"}},
		{"mkv", []string{"Café de l'Opéra (1962) 7.mkv", "東京物語 1953.mkv"}},
		{"miles opera", nil},
		{"nothing", nil},
	} {
		if got := names(search(t, a, c.query)); !slices.Equal(got, c.want) {
			t.Errorf("search %q: got %q, want %q", c.query, got, c.want)
		}
	}
	res := search(t, a, "opera")
	if it := item("Café de l'Opéra (1962) 7.mkv"); len(res) != 1 || res[0].Ref != it.Ref || res[0].Kind != it.Kind || res[0].Size != it.Size || res[0].Sources != 1 {
		t.Errorf("the row does not say what was published")
	}
}

func TestFind(t *testing.T) {
	r := newTestRouter(t, 12, StoreConfig{})
	a := newAsker(r)
	ref := chunk.Raw([]byte("content"))
	if got, err := Find(t.Context(), testNet, a, ref); err != nil || len(got) != 0 {
		t.Fatalf("unknown content: got %d sources, %v", len(got), err)
	}
	soon := time.Now().Add(time.Hour)
	for i := range 3 {
		g, err := NewGroup(testNet)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := g.MarshalBinary()
		if g, err = UnmarshalGroup(testNet, b); err != nil {
			t.Fatal(err)
		}
		p, err := g.Pointer(ref, soon)
		if err != nil {
			t.Fatal(err)
		}
		for seq := range 3 { // each session rewrites the record
			rec, err := g.Seal(source(byte(10*i+seq)), uint64(seq+1), soon)
			if err != nil {
				t.Fatal(err)
			}
			if err := Put(t.Context(), a, []Record{rec, p}); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := Find(t.Context(), testNet, a, ref)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, bytes.Compare)
	if want := [][]byte{source(2), source(12), source(22)}; !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("got %d sources, want the newest of each of 3 groups", len(got))
	}
	if got, _ := Find(t.Context(), "other-net", a, ref); len(got) != 0 {
		t.Errorf("records of another network were taken")
	}
}

func TestDeadSuperNodes(t *testing.T) {
	r := newTestRouter(t, 10, StoreConfig{})
	a := newAsker(r)
	it := item("survivor")
	addr := keysOf("survivor").addr
	near, _ := r.Nearest(t.Context(), addr, 8)
	r.kill(near[1], near[4])
	publish(t, a, it)
	r.kill(near[0], near[2], near[3]) // now only three of eight hold it
	if got := names(search(t, a, "survivor")); !slices.Equal(got, []string{"survivor"}) {
		t.Errorf("got %q, want the item", got)
	}
	r.kill(r.nodes...)
	q, _ := ParseQuery("survivor")
	if _, err := Search(t.Context(), testNet, a, q); !errors.Is(err, ErrNoSuperNode) {
		t.Errorf("all dead: got %v, want ErrNoSuperNode", err)
	}
	b, _ := NewBatch(testNet)
	recs, _ := b.Postings(it, time.Now().Add(time.Hour))
	if err := Put(t.Context(), a, recs); !errors.Is(err, ErrNotStored) {
		t.Errorf("all dead: got %v, want ErrNotStored", err)
	}
}
