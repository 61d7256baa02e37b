package node

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"wanderfs/relay/wire"
)

// pinnedEntries gives the entries that a node has pinned, those given up too.
func pinnedEntries(t *testing.T, n *Node) map[wire.NodeID]bool {
	t.Helper()
	n.mesh.chooser.mu.Lock()
	defer n.mesh.chooser.mu.Unlock()
	var s struct {
		Entries []struct{ Node string }
	}
	if err := json.Unmarshal(n.mesh.chooser.policy.State(), &s); err != nil {
		t.Fatal(err)
	}
	out := make(map[wire.NodeID]bool)
	for _, e := range s.Entries {
		b, err := hex.DecodeString(e.Node)
		if err != nil || len(b) != len(wire.NodeID{}) {
			t.Fatal("not the name of an entry")
		}
		out[wire.NodeID(b)] = true
	}
	return out
}

// Nobody but a node's own pinned entries learns that it takes part: whatever it
// shares, looks for and reads, circuits and index requests leave it for nobody
// else, though it is connected to all.
func TestOnlyEntriesSeeThatANodeTakesPart(t *testing.T) {
	boot := labNet(t, 9)
	quiet := func(c *Config) { c.NoRelay, c.SessionLife = true, 8*time.Second } // what it sends is its own
	pub, reader := labNode(t, boot, quiet), labNode(t, boot, quiet)

	var mu sync.Mutex
	seen := map[*Node]map[wire.NodeID]bool{pub: {}, reader: {}}
	asked, links := 0, 0
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			mu.Lock()
			for n, who := range seen {
				for _, c := range n.mesh.t.Network().Conns() {
					for _, s := range c.GetStreams() {
						switch id, _ := nodeOf(c.RemotePeer()); s.Protocol() {
						case n.mesh.t.protocols.relay:
							who[id] = true
							links++
						case n.mesh.t.protocols.index:
							asked++
						}
					}
				}
			}
			mu.Unlock()
		}
	})
	content, ref := shareFile(t, pub, "zebra.bin", 8<<20)
	eventually(t, time.Minute, "the name to be found", func() bool {
		r, err := reader.Search(t.Context(), "zebra")
		if err != nil {
			return false
		}
		defer r.Close()
		return len(r.List()) == 1
	})
	got, err := readAll(t.Context(), reader, ref)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	first := presentSession(pub)
	eventually(t, time.Minute, "another session", func() bool { return presentSession(pub) != first })
	close(stop)
	wg.Wait()
	if links == 0 {
		t.Fatal("no circuit was seen")
	}
	if asked != 0 {
		t.Errorf("an index request left a node itself, %d times seen", asked)
	}
	for n, who := range seen {
		entries := pinnedEntries(t, n)
		if len(entries) > 4 {
			t.Errorf("%d entries were pinned", len(entries))
		}
		peers := len(n.mesh.t.Network().Peers())
		if peers <= len(entries) {
			t.Errorf("the node knows %d peers only, the test shows nothing", peers)
		}
		for id := range who {
			if !entries[id] {
				t.Error("a circuit leaves the node for one who is no entry")
			}
		}
	}
}
