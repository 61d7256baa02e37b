package node

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"wanderfs/relay/wire"
)

func hopsView(t *testing.T, addrs []string, supers int) *view {
	t.Helper()
	v := testView(nil)
	for i, a := range addrs {
		var flags byte
		if i < supers {
			flags = wire.FlagSuper
		}
		d := testRelay(i, a, flags, time.Now())
		v.add(d, d.Node)
	}
	return v
}

func TestPath(t *testing.T) {
	var addrs []string
	for i := range 40 { // 8 prefixes of 5 relays
		addrs = append(addrs, fmt.Sprintf("10.%d.%d.1:1", i%8, i))
	}
	v := hopsView(t, addrs, 20)
	c, _ := newChooser(v, "")
	firsts := make(map[wire.NodeID]bool)
	for range 200 {
		hops, err := c.path(3, true)
		if err != nil {
			t.Fatal(err)
		}
		if !hops[2].Super() {
			t.Error("the last one is no super node")
		}
		avoid := hops[2]
		more, err := c.path(3, false, avoid)
		if err != nil {
			t.Fatal(err)
		}
		firsts[hops[0].Node], firsts[more[0].Node] = true, true
		for _, half := range [][]wire.Descriptor{hops, append(more, avoid)} {
			hoods := make(map[hoodKey]bool)
			for _, d := range half {
				hoods[v.hoodsOf(d)[0]] = true
			}
			if len(hoods) != len(half) {
				t.Errorf("%d relays in %d neighbourhoods", len(half), len(hoods))
			}
		}
	}
	if len(firsts) > maxPinned {
		t.Errorf("%d different entries, want at most %d", len(firsts), maxPinned)
	}
}

func TestPathOnLoopback(t *testing.T) {
	v := hopsView(t, []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}, 1)
	c, _ := newChooser(v, "")
	if _, err := c.path(3, true); err != nil {
		t.Error(err)
	}
	_, err := c.path(4, false)
	var few *FewRelaysError
	if !errors.As(err, &few) || few.Error() != "needs 4 relays, knows 3" {
		t.Errorf("got %v", err)
	}
}

// A relay that failed is used again at once where there is no other.
func TestPathInNeed(t *testing.T) {
	v := hopsView(t, []string{"10.1.0.1:1", "10.2.0.1:1", "10.3.0.1:1", "10.4.0.1:1"}, 0)
	c, _ := newChooser(v, "")
	bad := testRelay(1, "10.2.0.1:1", 0, time.Now()).Node
	v.failed(bad)
	for range 20 {
		hops, err := c.path(3, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range hops {
			if d.Node == bad {
				t.Fatal("a failed relay is used though others suffice")
			}
		}
	}
	if _, err := c.path(4, false); err != nil {
		t.Error(err)
	}
	for range deadAfter {
		v.failed(bad)
	}
	if _, err := c.path(4, false); err == nil {
		t.Error("a dead relay is used")
	}
}

func TestPathWaitsForNeighbourhoods(t *testing.T) {
	v := hopsView(t, []string{"10.1.0.1:1", "10.1.0.2:1", "10.2.0.1:1"}, 3)
	c, _ := newChooser(v, "")
	_, err := c.path(3, false)
	if err == nil || err.Error() != "needs 3 relays, knows 2" {
		t.Errorf("got %v", err)
	}
	v = hopsView(t, []string{"10.1.0.1:1", "10.2.0.2:1", "10.3.0.1:1"}, 0)
	c, _ = newChooser(v, "")
	if _, err = c.path(3, true); err == nil || err.Error() != "needs 1 super node, knows 0" {
		t.Errorf("got %v", err)
	}
}

func TestEntriesArePinned(t *testing.T) {
	dir := t.TempDir()
	var addrs []string
	for i := range 30 {
		addrs = append(addrs, fmt.Sprintf("10.%d.0.1:1", i))
	}
	v := hopsView(t, addrs, 0)
	seen := make(map[wire.NodeID]int)
	for range 20 { // restarts
		c, err := newChooser(v, dir)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			hops, err := c.path(3, false)
			if err != nil {
				t.Fatal(err)
			}
			seen[hops[0].Node]++
		}
	}
	if len(seen) != pinned {
		t.Errorf("%d entries over 20 restarts, want %d", len(seen), pinned)
	}
	for id := range seen { // one dies and is replaced
		for range deadAfter {
			v.failed(id)
		}
		break
	}
	c, _ := newChooser(v, dir)
	after := make(map[wire.NodeID]bool)
	for range 40 {
		hops, err := c.path(3, false)
		if err != nil {
			t.Fatal(err)
		}
		after[hops[0].Node] = true
		if v.dead(hops[0].Node) {
			t.Fatal("a dead entry is used")
		}
	}
	if len(after) != pinned {
		t.Errorf("%d entries after one died, want %d", len(after), pinned)
	}
}

// A relay with an address of each kind takes both neighbourhoods.
func TestPathMindsBothKinds(t *testing.T) {
	v := testView(nil)
	for i, addrs := range [][]string{{"10.1.0.1:1", "[fd00::1]:1"}, {"10.2.0.1:1", "[fd00::2]:1"}, {"10.3.0.1:1"}} {
		d := testRelay(i, addrs[0], 0, time.Now())
		for _, a := range addrs[1:] {
			d.Addrs = append(d.Addrs, netip.MustParseAddrPort(a))
		}
		d.Sign(testKey(i), testNetwork)
		v.add(d, d.Node)
	}
	c, _ := newChooser(v, "")
	if _, err := c.path(2, false); err != nil {
		t.Error(err)
	}
	if _, err := c.path(3, false); err == nil {
		t.Error("two relays of one IPv6 /32 on a path")
	}
	two := testRelay(9, "10.1.0.1:1", 0, time.Now())
	two.Addrs = append(two.Addrs, netip.MustParseAddrPort("10.9.0.1:1"))
	two.Sign(testKey(9), testNetwork)
	v.add(two, two.Node)
	if _, ok := v.lookup(two.Node); ok {
		t.Error("a relay with two homes was learned")
	}
}
