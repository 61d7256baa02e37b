package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/control"
	"wanderfs/relay/wire"
)

func publisherNumbers(n *Node) map[string]bool {
	out := make(map[string]bool)
	for _, s := range n.Status().Sessions {
		if s.Role == rolePublisher {
			out[s.Number] = true
		}
	}
	return out
}

// presentSession returns the session of n's first group.
func presentSession(n *Node) *session {
	n.publish.mu.Lock()
	defer n.publish.mu.Unlock()
	for _, g := range n.publish.groups {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.current
	}
	return nil
}

func shareFile(t *testing.T, n *Node, name string, size int) ([]byte, chunk.Ref) {
	t.Helper()
	content := make([]byte, size)
	rand.Read(content)
	if err := os.WriteFile(filepath.Join(n.Share().Dir(), name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the file to be published", func() bool {
		return n.Share().State(name).Phase == "published"
	})
	return content, n.Share().State(name).Ref
}

// After a restart a publisher has new sessions, and who knows the hash finds
// it again.
func TestRestartedPublisherIsFoundAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("takes many seconds")
	}
	t.Parallel()
	boot := labNet(t, 7)
	dir := t.TempDir()
	setup := func(c *Config) { c.Data = dir; c.Reachability = Private }
	pub := labNode(t, boot, setup)
	content, ref := shareFile(t, pub, "a b.bin", 3<<20)
	before := publisherNumbers(pub)
	if err := pub.Close(); err != nil {
		t.Fatal(err)
	}
	reader := labNode(t, boot, nil)
	pub = labNode(t, nil, setup) // it remembers its peers
	begin := time.Now()
	eventually(t, patience, "the file to be found again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		got, err := readAll(ctx, reader, ref)
		return err == nil && bytes.Equal(got, content)
	})
	t.Logf("found again after %v", time.Since(begin))
	for num := range publisherNumbers(pub) {
		if before[num] {
			t.Error("a session number outlived its process")
		}
	}
}

// Sessions rotate while a reader reads, and nothing stops.
func TestRotation(t *testing.T) {
	if testing.Short() {
		t.Skip("takes many seconds")
	}
	t.Parallel()
	boot := labNet(t, 7)
	pub := labNode(t, boot, func(c *Config) { c.SessionLife = 6 * time.Second })
	content, ref := shareFile(t, pub, "long.bin", 2<<20)
	reader := labNode(t, boot, func(c *Config) { c.CacheSize = 64 << 20 })
	seen := make(map[string]bool)
	most := 0
	eventually(t, patience, "three sessions", func() bool {
		s := pub.Status().Sessions
		for _, x := range s {
			seen[x.Number] = true
		}
		most = max(most, len(s))
		return len(seen) >= 3
	})
	if most > 3 {
		t.Errorf("%d sessions at a time", most)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := readAll(ctx, reader, ref)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes and %v", len(got), err)
	}
}

// A gateway that dies is replaced, on the session's own clock.
func TestLostGatewayIsReplaced(t *testing.T) {
	if testing.Short() {
		t.Skip("takes many seconds")
	}
	t.Parallel()
	first := labNode(t, nil, nil)
	boot := first.Status().Addrs
	var relays []*Node
	for range 7 {
		relays = append(relays, labNode(t, boot, nil))
	}
	pub := labNode(t, boot, func(c *Config) { c.Reachability = Private })
	content, ref := shareFile(t, pub, "x.bin", 1<<20)
	s := presentSession(pub)
	eventually(t, patience, "three gateways", func() bool { return s.ready() == 3 })
	s.mu.Lock()
	lost := s.gateways[0].desc.Node
	s.mu.Unlock()
	for _, r := range relays {
		if r.mesh.t.id == lost {
			r.Close()
		}
	}
	if lost == first.mesh.t.id {
		first.Close()
	}
	begin := time.Now()
	eventually(t, patience, "another gateway", func() bool {
		s.mu.Lock()
		g := s.gateways[0]
		again := g != nil && g.ready && g.desc.Node != lost
		s.mu.Unlock()
		return again && s.ready() == 3
	})
	t.Logf("replaced after %v", time.Since(begin))
	alive := relays[0]
	if lost == alive.mesh.t.id {
		alive = relays[1]
	}
	reader := labNode(t, alive.Status().Addrs, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	eventually(t, patience, "the reader", func() bool { return reader.Status().Ready })
	if got, err := readAll(ctx, reader, ref); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes and %v", len(got), err)
	}
}

// firstHops gives the entries that a node's paths take.
func firstHops(t *testing.T, n *Node) map[wire.NodeID]bool {
	t.Helper()
	ids := make(map[wire.NodeID]bool)
	for range 20 {
		hops, err := n.mesh.chooser.path(3, false)
		if err != nil {
			t.Fatal(err)
		}
		ids[hops[0].Node] = true
	}
	return ids
}

// A node that does not relay is a new node at each start, and nobody's hop. Its
// entries stay, even where the cache forgets all.
func TestNoRelay(t *testing.T) {
	t.Parallel()
	boot := labNet(t, 5)
	dir := t.TempDir()
	quiet := func(c *Config) { c.Data = dir; c.NoRelay = true; c.CacheKeyMemory = true }
	n := labNode(t, boot, quiet)
	eventually(t, patience, "a path", func() bool { return n.Status().Ready })
	one := n.Status()
	if one.SuperNode || one.Reachability != Private || one.Relayed != (control.Relayed{}) {
		t.Errorf("a node that does not relay says %+v", one.Relayed)
	}
	entries := firstHops(t, n)
	n.Close()
	n = labNode(t, boot, quiet)
	eventually(t, patience, "a path", func() bool { return n.Status().Ready })
	if n.Status().Node == one.Node {
		t.Error("the same NodeID after a restart")
	}
	for id := range firstHops(t, n) {
		if !entries[id] {
			t.Error("another entry after a restart")
		}
	}
}

// Closing is quick though peers have gone without a word.
func TestCloseIsQuick(t *testing.T) {
	boot := labNet(t, 5)
	n := labNode(t, boot, nil)
	eventually(t, patience, "a path", func() bool { return n.Status().Ready })
	begin := time.Now()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.Close()
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

// Whoever is pinned is a session's gateway as often as others are, also where
// its paths avoid each other's relays.
func TestGatewaysOfASessionShowNoPins(t *testing.T) {
	const relays, rounds = 24, 1200
	var addrs []string
	for i := range relays {
		addrs = append(addrs, fmt.Sprintf("10.%d.0.1:1", i))
	}
	v := hopsView(t, addrs, relays)
	c := testChooser(t, v, nil)
	drawn := make(map[wire.NodeID]int)
	pinned := make(map[wire.NodeID]bool)
	for range rounds {
		s := &session{p: &publishing{paths: &paths{chooser: c, view: v}, hops: 2}}
		for slot := range s.gateways {
			hops, err := s.choose(slot)
			if err != nil {
				t.Fatal(err)
			}
			pinned[hops[0].Node], pinned[hops[1].Node] = true, true
			drawn[hops[2].Node]++
		}
	}
	if len(pinned) != 6 {
		t.Fatalf("%d relays are pinned, want 2 and 4", len(pinned))
	}
	for _, d := range v.Usable() {
		want := rounds * wire.MaxGateways / relays
		if got := drawn[d.Node]; got < want*2/3 || got > want*4/3 { // 12 apart is one standard deviation
			t.Errorf("a relay (pinned: %v) was the gateway %d times, want about %d", pinned[d.Node], got, want)
		}
	}
}
