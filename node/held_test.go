package node

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/view/viewtest"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// testHeld is a relay that nobody can dial, with its record.
func testHeld(t testing.TB, seed int, through ...wire.NodeID) wire.Held {
	t.Helper()
	key := viewtest.Key(seed)
	d := viewtest.Relay(seed, "10.1.0.1:1", 0, time.Now())
	d.Addrs = nil
	if err := d.Sign(key, viewtest.Network); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(through, func(a, b wire.NodeID) int { return bytes.Compare(a[:], b[:]) })
	h := wire.Held{Desc: d, Through: [wire.HeldThrough]wire.NodeID(through)}
	if err := h.Sign(key, viewtest.Network); err != nil {
		t.Fatal(err)
	}
	return h
}

// A relay that nobody can dial is believed when both of its neighbours tell of
// it, and stands behind one of them only, in the third place or later.
func TestHeldRelays(t *testing.T) {
	m := startMesh(t, labConfig(t))
	r := newHeldRelays(m.t, testView(nil), m.self)
	r.share = 1
	now := time.Now()
	var hops []wire.Descriptor
	for i := range 5 {
		hops = append(hops, viewtest.Relay(10+i, "10.1.0.1:1", 0, now))
	}
	a, b, other := hops[1].Node, hops[4].Node, hops[2].Node
	h := testHeld(t, 3, a, b)
	same := func(got []wire.Descriptor) bool {
		return slices.EqualFunc(got, hops, func(x, y wire.Descriptor) bool { return x.Node == y.Node })
	}
	for _, from := range []wire.NodeID{other, h.Desc.Node, a} {
		if r.add(h, from) {
			t.Error("tells of a relay that holds no connection here")
		}
	}
	if !same(r.insert(hops)) {
		t.Error("one neighbour's word was enough")
	}
	forged := h
	forged.Through[0][5] ^= 1
	r.add(forged, b)
	if len(r.known) != 1 || !same(r.insert(hops)) {
		t.Error("took a forged record")
	}
	r.add(h, b)
	places := map[int]bool{}
	for range 200 {
		got := r.insert(hops)
		for i := range got {
			if got[i].Node == h.Desc.Node {
				places[i] = true
				got[i] = hops[i]
			}
		}
		if !same(got) {
			t.Fatal("changed another place, too")
		}
	}
	if want := map[int]bool{2: true}; len(places) != 1 || !places[2] {
		t.Errorf("got places %v, want %v", places, want)
	}
	entryAndOne := []wire.Descriptor{hops[1], hops[0]}
	if got := r.insert(entryAndOne); got[1].Node != hops[0].Node {
		t.Error("took the second place")
	}
	both := slices.Clone(hops)
	both[3] = h.Desc
	if got := r.insert(both); got[2].Node == h.Desc.Node {
		t.Error("took one that the path holds already")
	}
	r.failed(h.Desc.Node)
	if !same(r.insert(hops)) {
		t.Error("took one that has just failed")
	}
	r.now = func() time.Time { return h.Desc.Expires }
	r.tend()
	if len(r.known) != 0 || len(r.per) != 0 {
		t.Errorf("%d expired records are kept, %d counts", len(r.known), len(r.per))
	}
}

// A relay is either dialled or held: what it said last counts.
func TestHeldRelayBecomesDialable(t *testing.T) {
	m := startMesh(t, labConfig(t))
	r := newHeldRelays(m.t, testView(nil), m.self)
	a, b := viewtest.Relay(10, "10.1.0.1:1", 0, time.Now()).Node, viewtest.Relay(11, "10.1.0.1:1", 0, time.Now()).Node
	h := testHeld(t, 3, a, b)
	id := h.Desc.Node
	r.view.Add(viewtest.Relay(3, "10.1.0.1:1", 0, h.Desc.Issued.Add(-time.Minute)), id)
	r.add(h, a)
	r.tend()
	if _, ok := usable(r.view, id); ok || r.known[id] == nil {
		t.Errorf("after it said that it is held: dialled %v, held %v", ok, r.known[id] != nil)
	}
	r.view.Add(viewtest.Relay(3, "10.1.0.1:1", 0, h.Desc.Issued.Add(time.Minute)), id)
	r.tend()
	if _, ok := usable(r.view, id); !ok || r.known[id] != nil {
		t.Errorf("after it said that it can be dialled: dialled %v, held %v", ok, r.known[id] != nil)
	}
}

// One neighbour cannot fill the memory with relays that it makes up.
func TestHeldRelaysAreBounded(t *testing.T) {
	m := startMesh(t, labConfig(t))
	r := newHeldRelays(m.t, testView(nil), m.self)
	a, b := viewtest.Relay(10, "10.1.0.1:1", 0, time.Now()).Node, viewtest.Relay(11, "10.1.0.1:1", 0, time.Now()).Node
	for i := range maxPerHold + 20 {
		r.add(testHeld(t, 20+i, a, b), a)
	}
	if len(r.known) != maxPerHold || r.per[a] != maxPerHold {
		t.Errorf("got %d, want %d", len(r.known), maxPerHold)
	}
}

// Whom a relay that nobody can dial names does not change when its own paths
// are pinned to one of those.
func TestHeldNeighboursShowNoPins(t *testing.T) {
	m, err := newMesh(labConfig(t)) // it is not started: it dials nobody
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i := range 8 {
		d := viewtest.Relay(10+i, fmt.Sprintf("10.%d.0.1:1", i), wire.FlagSuper, time.Now())
		if err := d.Sign(viewtest.Key(10+i), m.view.Network()); err != nil {
			t.Fatal(err)
		}
		m.view.Add(d, d.Node)
	}
	named := m.held.neighbours()
	if len(named) != wire.HeldThrough {
		t.Fatalf("got %d neighbours, want %d", len(named), wire.HeldThrough)
	}
	pinned := false
	for try := 0; !pinned; try++ {
		if try == 1000 {
			t.Fatal("no path is pinned to a named relay")
		}
		if try%20 == 0 { // six of eight are pinned, and may miss both
			m.chooser.policy, err = relay.NewChooser(relay.ChoiceConfig{Settle: -1, Now: m.view.Now}, nil)
			if err != nil {
				t.Fatal(err)
			}
		}
		hops, err := m.chooser.path(4, true)
		if err != nil {
			t.Fatal(err)
		}
		pinned = slices.Contains(named, hops[0].Node) || slices.Contains(named, hops[1].Node)
	}
	if got := m.held.neighbours(); !slices.Equal(got, named) {
		t.Error("a relay that is pinned is named no more")
	}
}

// Nodes that nobody can dial relay for a reader, over connections that they
// hold to the relay before them.
func TestUndialableNodesRelay(t *testing.T) {
	t.Parallel()
	boot := labNet(t, 10)
	private := func(c *Config) { c.Reachability = Private }
	var quiet []*Node
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			n := labNode(t, boot, private)
			mu.Lock()
			defer mu.Unlock()
			quiet = append(quiet, n)
		})
	}
	wg.Wait()
	pub, reader := labNode(t, boot, private), labNode(t, boot, private)
	reader.mesh.held.share = 1
	eventually(t, patience, "the reader to know of relays that nobody can dial", func() bool {
		h := reader.mesh.held
		h.mu.Lock()
		defer h.mu.Unlock()
		n := 0
		for _, q := range quiet {
			if k := h.known[q.mesh.t.id]; k != nil && k.said == [wire.HeldThrough]bool{true, true} {
				n++
			}
		}
		return n == len(quiet)
	})
	for _, q := range quiet {
		if _, ok := q.mesh.self.get(); ok || len(q.Status().Addrs) > 0 || q.Status().SuperNode {
			t.Error("a node that nobody can dial tells addresses")
		}
	}
	carried := func() (n uint64) {
		for _, q := range append(quiet, pub) {
			n += q.relay.Stats().Bytes
		}
		return n
	}
	const want = 256 << 10 // more than set-ups take
	for i := 0; carried() < want; i++ {
		if i == 10 {
			t.Fatalf("nodes that cannot be dialled have carried %d bytes of ten files, want %d", carried(), want)
		}
		content := make([]byte, 1<<20)
		rand.Read(content)
		name := string(rune('a'+i)) + " grey seal.bin"
		if err := os.WriteFile(filepath.Join(pub.Share().Dir(), name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		var ref chunk.Ref
		eventually(t, patience, "the file to be published", func() bool {
			s := pub.Share().State(name)
			ref = s.Ref
			return s.Phase == "published"
		})
		got, err := readAll(t.Context(), reader, ref)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("got %d bytes and %v, want %d", len(got), err, len(content))
		}
	}
	t.Logf("%d bytes carried by nodes that nobody can dial", carried())
}
