package node

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// livePaths are n's own paths, those of one purpose or with "" all.
func livePaths(n *Node, purpose string) (out []*ownPath) {
	n.paths.mu.Lock()
	defer n.paths.mu.Unlock()
	for p := range n.paths.live {
		if purpose == "" || p.purpose == purpose {
			out = append(out, p)
		}
	}
	return out
}

// A session stands at three different super nodes, over paths of different
// far ends, and builds nothing because somebody reads.
func TestStandingGateways(t *testing.T) {
	t.Parallel()
	boot := labNet(t, 9)
	pub := labNode(t, boot, nil)
	content, ref := shareFile(t, pub, "x.bin", 2<<20)
	s := presentSession(pub)
	eventually(t, patience, "three gateways", func() bool { return s.ready() == wire.MaxGateways })
	src, ok := s.source(pub.mesh.t.network)
	if !ok || len(src.Gateways) != wire.MaxGateways {
		t.Fatalf("the record names %d gateways", len(src.Gateways))
	}
	seen := make(map[wire.NodeID]bool)
	for _, g := range src.Gateways {
		if seen[g.Node] || !g.Super() || g.Node == pub.mesh.t.id {
			t.Error("a gateway is named twice, is no super node, or is the publisher itself")
		}
		seen[g.Node] = true
	}
	before := livePaths(pub, purposePublish)
	if len(before) != wire.MaxGateways {
		t.Errorf("%d standing paths", len(before))
	}
	for range 3 {
		reader := labNode(t, boot, func(c *Config) { c.Reachability = Private }) // nobody's hop
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var got []byte
		eventually(t, patience, "the content", func() bool {
			var err error
			got, err = readAll(ctx, reader, ref)
			return err == nil
		})
		cancel()
		if !bytes.Equal(got, content) {
			t.Fatalf("got %d bytes", len(got))
		}
	}
	after := livePaths(pub, purposePublish)
	for _, p := range after {
		if !slices.Contains(before, p) {
			t.Error("a path was built because somebody read")
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d standing paths, there were %d", len(after), len(before))
	}
}

// Gateways die while content is read through them: the reader goes on by the
// others, at once.
func TestReaderTriesTheOtherGateways(t *testing.T) {
	if testing.Short() {
		t.Skip("takes many seconds")
	}
	t.Parallel()
	first := labNode(t, nil, nil)
	boot := first.Status().Addrs
	byID := map[wire.NodeID]*Node{}
	for range 9 {
		n := labNode(t, boot, nil)
		byID[n.mesh.t.id] = n
	}
	hidden := func(c *Config) { c.Reachability = Private }
	pub := labNode(t, boot, func(c *Config) { hidden(c); c.UpLimit = 11 << 20 /* a session: 4 */ })
	reader := labNode(t, boot, hidden)
	content, ref := shareFile(t, pub, "x.bin", 16<<20)
	s := presentSession(pub)
	eventually(t, patience, "three gateways", func() bool { return s.ready() == wire.MaxGateways })
	f, err := reader.Open(t.Context(), ref, ref)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 256<<10)
	killed := 0
	for off := int64(0); off < int64(len(content)); off += int64(len(buf)) {
		n, err := f.ReadAt(t.Context(), buf, off)
		if n != len(buf) {
			t.Fatalf("at %d, after %d gateways died: %v", off, killed, err)
		}
		if !bytes.Equal(buf, content[off:off+int64(n)]) {
			t.Fatal("wrong bytes")
		}
		if off < 2<<20 || killed == 2 {
			continue
		}
		for _, p := range livePaths(reader, purposeRead) {
			gateway := byID[p.hops[len(p.hops)-1].Node]
			if in, _ := p.Traffic(); in > 128<<10 && gateway != nil && p.Err() == nil {
				delete(byID, gateway.mesh.t.id)
				gateway.Close()
				killed++
				break
			}
		}
	}
	if killed < 2 {
		t.Errorf("%d gateways in use died during the read", killed)
	}
}

// A node is no hop of its own paths, nor is a path's gateway; but it reads by a
// gateway that is itself as by any other: who offers several could else tell by
// which of them it never comes.
func TestNeverItself(t *testing.T) {
	t.Parallel()
	boot := labNet(t, 6)
	n := labNode(t, boot, nil) // dialable: others use it as relay and gateway
	eventually(t, patience, "a path", func() bool { return n.Status().Ready })
	eventually(t, patience, "its own descriptor", func() bool { _, ok := n.mesh.self.get(); return ok })
	own, _ := n.mesh.self.get()
	waitFor(t, n.mesh, patience, "six relays", func() bool { return len(n.mesh.view.Usable()) == 6 })
	n.mesh.view.Add(own, own.Node) // somebody tells it of itself
	if _, ok := n.mesh.view.Lookup(own.Node); ok {
		t.Error("a node knows itself as a relay")
	}
	gateway := n.mesh.view.Usable()[0]
	check := func(what string, hops []wire.Descriptor, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[wire.NodeID]bool{own.Node: true}
		for _, h := range hops {
			if seen[h.Node] {
				t.Fatalf("%s: a hop is the node itself, or comes twice", what)
			}
			seen[h.Node] = true
		}
	}
	for range 200 {
		hops, err := n.mesh.chooser.path(3, false, gateway)
		check("reading", append(hops, gateway), err)
		hops, err = n.mesh.chooser.path(3, true)
		check("publishing", hops, err)
		hops, err = n.mesh.chooser.lookup(3)
		check("look-up", hops, err)
	}

	keys, err := relay.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	src := wire.Source{Keys: keys.Keys(), Expires: time.Now().Add(time.Hour), Gateways: []wire.Descriptor{own, gateway}}
	src.Sign(keys.SignKey(), n.mesh.t.network)
	b, err := src.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &finder{network: n.mesh.t.network, paths: n.paths, policy: n.mesh.t.policy}
	rs := f.routes(chunk.Raw([]byte("x")), [][]byte{b})
	if len(rs) != 2 {
		t.Fatalf("got %d routes, want 2", len(rs))
	}
	p, err := n.paths.over(t.Context(), n.reads.legs.of(chunk.Raw([]byte("x"))), own)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	check("by itself", p.hops[:3], nil)
	if err := p.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
