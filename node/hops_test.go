package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"wanderfs/node/view"
	"wanderfs/node/view/viewtest"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

func testView(now func() time.Time) *view.View {
	return view.New(wire.NodeID{1}, viewtest.Network, view.Policy{Lab: true}, now)
}

// usable returns the descriptor of id when it is confirmed and well at visits.
func usable(v *view.View, id wire.NodeID) (wire.Descriptor, bool) {
	for _, d := range v.Usable() {
		if d.Node == id {
			return d, true
		}
	}
	return wire.Descriptor{}, false
}

// testChooser chooses from v at once.
func testChooser(t *testing.T, v *view.View, keep *pinStore) *chooser {
	t.Helper()
	c, err := newChooser(v, keep, relay.ChoiceConfig{Settle: -1, Now: v.Now}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// clockedView is a view whose time passes where relays fail.
type clockedView struct {
	*view.View
	passed atomic.Int64 // nanoseconds
}

// kill lets a relay fail until it counts as dead, while another one answers.
func (v *clockedView) kill(id wire.NodeID) {
	for range view.DeadAfter {
		v.HopFailed(id)
		v.Failed(id)
		v.AskFailed(id)
		v.passed.Add(int64(time.Minute))
		for _, d := range v.Usable() {
			if d.Node != id {
				v.Alive(d.Node)
				break
			}
		}
	}
}

func hopsView(t *testing.T, addrs []string, supers int) *view.View {
	return newClockedView(t, addrs, supers).View
}

func newClockedView(t *testing.T, addrs []string, supers int) *clockedView {
	t.Helper()
	v := &clockedView{}
	v.View = testView(func() time.Time { return time.Now().Add(time.Duration(v.passed.Load())) })
	for i, a := range addrs {
		var flags byte
		if i < supers {
			flags = wire.FlagSuper
		}
		d := viewtest.Relay(i, a, flags, time.Now())
		v.Add(d, d.Node)
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
				cand, _ := v.Candidate(d)
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
	v := newClockedView(t, []string{"10.1.0.1:1", "10.2.0.1:1", "10.3.0.1:1", "10.4.0.1:1"}, 0)
	c := testChooser(t, v.View, nil)
	bad := viewtest.Relay(1, "10.2.0.1:1", 0, time.Now()).Node
	v.Failed(bad)
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
	v.kill(bad)
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
		d := viewtest.Relay(i, addrs[0], 0, time.Now())
		for _, a := range addrs[1:] {
			d.Addrs = append(d.Addrs, netip.MustParseAddrPort(a))
		}
		d.Sign(viewtest.Key(i), viewtest.Network)
		v.Add(d, d.Node)
	}
	c := testChooser(t, v, nil)
	if _, err := c.path(2, false); err != nil {
		t.Error(err)
	}
	if _, err := c.path(3, false); err == nil {
		t.Error("two relays of one IPv6 /32 on a path")
	}
	two := viewtest.Relay(9, "10.1.0.1:1", 0, time.Now())
	two.Addrs = append(two.Addrs, netip.MustParseAddrPort("10.9.0.1:1"))
	two.Sign(viewtest.Key(9), viewtest.Network)
	v.Add(two, two.Node)
	if _, ok := v.Lookup(two.Node); ok {
		t.Error("a relay with two homes was learned")
	}
}

// A node that is cut off does not take its entries for lost, and says what it
// waits for.
func TestCutOffNodeWaits(t *testing.T) {
	now := time.Now()
	v := testView(func() time.Time { return now })
	for i := range 20 {
		d := viewtest.Relay(i, fmt.Sprintf("10.%d.0.1:1", i), 0, now)
		v.Add(d, d.Node)
	}
	c := testChooser(t, v, nil)
	entries := firstsOf(t, c)
	now = now.Add(wire.OnionLife) // their descriptors have expired
	v.Expire()
	for i := range 20 {
		if d := viewtest.Relay(i, fmt.Sprintf("10.%d.0.1:1", i), 0, now); !entries[d.Node] {
			v.Add(d, d.Node)
		}
	}
	for range 100 {
		c.watch(watchEvery)
	}
	_, err := c.path(3, false)
	if !errors.Is(err, relay.ErrEntriesDown) || err.Error() != "no pinned entry answers, waiting for one to come back" {
		t.Errorf("got %v, want ErrEntriesDown", err)
	}
	for i := range len(entries) + 1 { // somebody answers who is no entry
		v.Alive(viewtest.Relay(i, fmt.Sprintf("10.%d.0.1:1", i), 0, now).Node)
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
	gateway := viewtest.Relay(3, addrs[3], wire.FlagSuper, time.Now())
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

// A relay that gives this node a descriptor of its own does not get it used
// before others have it, too: a path built with it would name its builder.
func TestDescriptorOfOnesOwnIsNotUsedAtOnce(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	v := testView(func() time.Time { return now })
	common := viewtest.Again(3, "10.3.0.1:1", now.Add(-time.Minute), 0)
	v.Add(common, wire.NodeID{8}) // heard of from another
	for i := range 40 {           // enough that nobody needs its newest one
		d := viewtest.Relay(100+i, fmt.Sprintf("10.%d.0.1:1", 100+i), wire.FlagSuper, now)
		v.Add(d, d.Node)
	}
	c := testChooser(t, v, nil)
	used := func() map[byte]bool {
		keys := make(map[byte]bool)
		for range 200 {
			hops, err := c.path(4, true)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range hops[1:] {
				if h.Node == common.Node {
					keys[h.Onion[1]] = true
				}
			}
		}
		return keys
	}
	for i := byte(1); i <= 3; i++ { // more than one in a row do not help it
		own := viewtest.Again(3, "10.3.0.1:1", now, i)
		v.Add(own, own.Node)
		if got := used(); len(got) != 1 || !got[0] {
			t.Fatalf("paths use the onion keys %v, want only the first", got)
		}
		if got, _ := v.Lookup(common.Node); got.Onion[1] != i {
			t.Fatal("the newest is not passed on")
		}
		now = now.Add(time.Minute)
	}
	now = now.Add(view.AdoptAfter)
	if got := used(); len(got) != 1 || !got[3] {
		t.Errorf("paths use the onion keys %v, want the newest by now", got)
	}
}
