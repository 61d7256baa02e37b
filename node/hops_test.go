package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// testChooser chooses from v at once.
func testChooser(t *testing.T, v *view, keep *pinStore) *chooser {
	t.Helper()
	c, err := newChooser(v, keep, relay.ChoiceConfig{Settle: -1, Now: v.now}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kill makes a relay count as dead.
func kill(v *view, id wire.NodeID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	k.own.fails, k.visits.fails, k.asked.fails = deadAfter, deadAfter, deadAfter
}

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
	c := testChooser(t, v, nil)
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
			hoods := make(map[relay.Hood]bool)
			for _, d := range half {
				cand, _ := v.candidateOf(d)
				hoods[cand.Hoods()[0]] = true
			}
			if len(hoods) != len(half) {
				t.Errorf("%d relays in %d neighbourhoods", len(half), len(hoods))
			}
		}
	}
	if len(firsts) != 2 {
		t.Errorf("%d different entries, want 2", len(firsts))
	}
}

func TestPathOnLoopback(t *testing.T) {
	v := hopsView(t, []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}, 3)
	c := testChooser(t, v, nil)
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
	c := testChooser(t, v, nil)
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
	kill(v, bad)
	if _, err := c.path(4, false); err == nil {
		t.Error("a dead relay is used")
	}
}

func TestPathWaitsForNeighbourhoods(t *testing.T) {
	v := hopsView(t, []string{"10.1.0.1:1", "10.1.0.2:1", "10.2.0.1:1"}, 3)
	c := testChooser(t, v, nil)
	_, err := c.path(3, false)
	if err == nil || err.Error() != "needs 3 relays, knows 2" {
		t.Errorf("got %v", err)
	}
	v = hopsView(t, []string{"10.1.0.1:1", "10.2.0.2:1", "10.3.0.1:1"}, 0)
	c = testChooser(t, v, nil)
	if _, err = c.path(3, true); err == nil || err.Error() != "needs 1 super node, knows 0" {
		t.Errorf("got %v", err)
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
	c := testChooser(t, v, nil)
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

// A node that is cut off does not take its entries for lost, and says what it
// waits for.
func TestCutOffNodeWaits(t *testing.T) {
	now := time.Now()
	v := testView(func() time.Time { return now })
	for i := range 20 {
		d := testRelay(i, fmt.Sprintf("10.%d.0.1:1", i), 0, now)
		v.add(d, d.Node)
	}
	c := testChooser(t, v, nil)
	entries := firstsOf(t, c)
	v.mu.Lock()
	for id := range entries { // their descriptors have expired
		v.dropLocked(id, v.relays[id])
	}
	v.mu.Unlock()
	for range 100 {
		c.watch(watchEvery)
	}
	_, err := c.path(3, false)
	if !errors.Is(err, relay.ErrEntriesDown) || err.Error() != "no pinned entry answers, waiting for one to come back" {
		t.Errorf("got %v, want ErrEntriesDown", err)
	}
	for i := range len(entries) + 1 { // somebody answers who is no entry
		v.alive(testRelay(i, fmt.Sprintf("10.%d.0.1:1", i), 0, now).Node)
	}
	for range 4 {
		c.watch(watchEvery)
	}
	for id := range firstsOf(t, c) {
		if entries[id] {
			t.Error("an entry is used that is not known any more")
		}
	}
}

// Every number of hops that a user may ask for works, for every kind of path.
func TestAllNumbersOfHops(t *testing.T) {
	var addrs []string
	for i := range 12 {
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", 1000+i))
	}
	v := hopsView(t, addrs, 12)
	c := testChooser(t, v, nil)
	gateway := testRelay(3, addrs[3], wire.FlagSuper, time.Now())
	for hops := 1; hops <= maxHops; hops++ {
		for range 20 {
			look, err := c.lookup(hops)
			if err != nil || len(look) != hops {
				t.Fatalf("lookup: got %d of %d relays, %v", len(look), hops, err)
			}
			read, err := c.path(hops, false, gateway)
			if err != nil || len(read) != hops {
				t.Fatalf("read: got %d of %d relays, %v", len(read), hops, err)
			}
			own := max(1, hops-1)
			publish, err := c.path(own+1, true)
			if err != nil || len(publish) != own+1 || !publish[own].Super() {
				t.Fatalf("publish: got %d of %d relays, %v", len(publish), own+1, err)
			}
		}
	}
}
