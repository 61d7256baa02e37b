package node

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/index"
	"wanderfs/relay/wire"
)

// storeMesh starts a node that answers index requests from a store.
func storeMesh(t *testing.T, c meshConfig) (*mesh, *index.Store) {
	t.Helper()
	m, err := newMesh(c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := index.OpenStore(index.StoreConfig{Path: filepath.Join(t.TempDir(), "i.db"), Network: c.Network})
	if err != nil {
		m.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(); s.Close() })
	m.serve(echoRelay{}, index.NewServer(index.ServerConfig{Holder: s, Router: m.router, Self: m.t.id, Network: c.Network}))
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	return m, s
}

// nearRouter is a view of the network that knows two super nodes near a key.
type nearRouter struct {
	*router
	known []wire.NodeID
}

func (r nearRouter) Nearest(context.Context, [32]byte, int) ([]wire.NodeID, error) {
	return r.known[:1], nil
}
func (r nearRouter) Known([32]byte, int) []wire.NodeID { return r.known }

type farPath struct{ f *index.Far }

func (p farPath) Ask(ctx context.Context, req []byte) ([]byte, error) { return p.f.Answer(ctx, req) }

// TestWalkOverTheNetwork: a far end that knows two of six super nodes finds
// what another one holds, over real connections.
func TestWalkOverTheNetwork(t *testing.T) {
	const nodes = 6
	var ms []*mesh
	var stores []*index.Store
	for i := range nodes {
		c := labConfig(t)
		if i > 0 {
			c.Bootstrap = ms[0].t.fullAddrs()
		}
		m, s := storeMesh(t, c)
		ms, stores = append(ms, m), append(stores, s)
	}
	for _, m := range ms {
		waitFor(t, m, patience, "5 relays", func() bool { return len(m.view.Usable()) == nodes-1 })
	}
	network := labConfig(t).Network
	b, err := index.NewBatch(network)
	if err != nil {
		t.Fatal(err)
	}
	recs, err := b.Postings(index.Item{Name: "faraway", Ref: chunk.Raw([]byte("x")), Kind: chunk.File, Size: 1}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	put := append([]byte{1, 1, 0, 1}, recs[0].Bytes()...)
	if _, err := stores[5].Answer(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	r := nearRouter{ms[0].router, []wire.NodeID{ms[1].t.id, ms[2].t.id}}
	q, err := index.ParseQuery("faraway")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ walkers, want int }{{-1, 0}, {0, 1}} {
		far := index.NewFar(index.FarConfig{Router: r, Network: network, Walkers: c.walkers, WalkAfter: time.Minute, Reach: 20 * time.Second, Ask: 20 * time.Second})
		rows, err := index.Search(t.Context(), network, farPath{far}, q)
		if err != nil || len(rows) != c.want {
			t.Errorf("with %d walkers: got %d rows, %v, want %d", c.walkers, len(rows), err, c.want)
		}
	}
	known := ms[0].router.Known(recs[0].Address(), nodes)
	near, err := ms[0].router.Nearest(t.Context(), recs[0].Address(), nodes)
	if err != nil || !slices.Equal(known, near) || len(known) != nodes {
		t.Errorf("got %d known and %d nearest, %v, want the same %d", len(known), len(near), err, nodes)
	}
	if err := ms[0].router.Reach(t.Context(), ms[0].t.id); err != nil {
		t.Errorf("a super node does not reach itself: %v", err)
	}
	if err := ms[0].router.Reach(t.Context(), ms[4].t.id); err != nil {
		t.Errorf("reach: %v", err)
	}
	ms[4].Close()
	eventually(t, patience, "a node that is gone not to be reached", func() bool {
		return ms[0].router.Reach(t.Context(), ms[4].t.id) != nil
	})
}
