package view

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"wanderfs/node/view/viewtest"
	"wanderfs/relay/wire"
)

func testView(now func() time.Time) *View {
	return New(wire.NodeID{1}, viewtest.Network, Policy{Lab: true}, now)
}

func TestVouchers(t *testing.T) {
	v := testView(nil)
	now := time.Now()
	d := viewtest.Relay(1, "10.1.0.1:1", 0, now)
	v.Add(d, wire.NodeID{8})
	v.Add(d, wire.NodeID{8})
	if got := len(v.Usable()); got != 0 {
		t.Errorf("one voucher: got %d usable, want 0", got)
	}
	if _, visit := v.Add(d, wire.NodeID{9}); !visit {
		t.Error("an unmet relay is worth a visit")
	}
	if got := len(v.Usable()); got != 1 {
		t.Errorf("two vouchers: got %d usable, want 1", got)
	}
	if got := len(v.Sample(10)); got != 0 {
		t.Errorf("vouched for %d relays that were never met", got)
	}
	e := viewtest.Relay(2, "10.2.0.1:1", 0, now)
	if met, _ := v.Add(e, e.Node); !met {
		t.Error("met a relay, want so")
	}
	if got := len(v.Sample(10)); got != 1 {
		t.Errorf("got a sample of %d, want 1", got)
	}
}

func TestHostileDescriptors(t *testing.T) {
	now := time.Now()
	forged := viewtest.Relay(3, "10.3.0.1:1", 0, now)
	forged.Addrs[0] = netip.MustParseAddrPort("10.66.0.1:1")
	otherNet := viewtest.Relay(4, "10.4.0.1:1", 0, now)
	otherNet.Sign(viewtest.Key(4), "test")
	old := viewtest.Relay(5, "10.5.0.1:1", 0, now.Add(-wire.OnionLife-time.Second))
	future := viewtest.Relay(6, "10.6.0.1:1", 0, now.Add(time.Hour))
	long := viewtest.Relay(7, "10.7.0.1:1", 0, now)
	long.Expires = now.Add(48 * time.Hour)
	long.Sign(viewtest.Key(7), viewtest.Network)
	public := viewtest.Relay(8, "8.8.8.8:1", 0, now)
	noPort := viewtest.Relay(9, "10.9.0.1:0", 0, now)
	none := viewtest.Relay(10, "10.9.0.1:1", 0, now)
	none.Addrs = nil
	none.Sign(viewtest.Key(10), viewtest.Network)
	for name, d := range map[string]wire.Descriptor{
		"forged": forged, "other network": otherNet, "expired": old, "future": future,
		"too long": long, "public in lab": public, "port 0": noPort, "no address": none,
	} {
		v := testView(nil)
		v.Add(d, d.Node)
		if c, _ := v.Count(); c != 0 {
			t.Errorf("%s: accepted", name)
		}
	}
	v := testView(nil)
	self := viewtest.Relay(1, "10.1.0.1:1", 0, now)
	v.self = self.Node
	v.Add(self, self.Node)
	if c, _ := v.Count(); c != 0 {
		t.Error("a node learned itself")
	}
}

// An older descriptor never replaces a newer one.
func TestNewestDescriptorWins(t *testing.T) {
	now := time.Now()
	v := testView(nil)
	newer, older := viewtest.Relay(1, "10.1.0.1:2", 0, now), viewtest.Relay(1, "10.1.0.1:1", 0, now.Add(-time.Minute))
	v.Add(newer, newer.Node)
	v.Add(older, wire.NodeID{7})
	if got, _ := v.get(newer.Node); got.Addrs[0].Port() != 2 {
		t.Errorf("got port %d, want 2", got.Addrs[0].Port())
	}
}

func TestBounded(t *testing.T) {
	v := testView(nil)
	now := time.Now()
	for i := range maxPerVoucher + 50 {
		v.Add(viewtest.Relay(i, fmt.Sprintf("10.%d.0.1:1", i%200), 0, now), wire.NodeID{9})
	}
	if got := len(v.relays); got != maxPerVoucher {
		t.Errorf("one voucher: got %d relays, want %d", got, maxPerVoucher)
	}
	v = testView(nil)
	for i := range maxPerHood + 50 {
		d := viewtest.Relay(i, fmt.Sprintf("10.1.%d.1:1", i%250), 0, now)
		v.Add(d, d.Node)
	}
	if got := len(v.relays); got != maxPerHood {
		t.Errorf("one /16: got %d relays, want %d", got, maxPerHood)
	}
}

// fail lets a relay fail n times that count: pauses pass, and others answer.
func fail(v *View, now *time.Time, id, other wire.NodeID, n int) {
	for range n {
		v.Failed(id)
		*now = now.Add(longestBackoff)
		v.Alive(other)
	}
}

// A flood of descriptors from one peer, or from many in one /16, confirms
// nothing and pushes nobody out.
func TestFloodOfDescriptors(t *testing.T) {
	v := testView(nil)
	now := time.Now()
	at := func(i int, addr string) Source {
		return SourceAt(wire.NodeID{9, byte(i), byte(i >> 8)}, netip.MustParseAddrPort(addr))
	}
	var honest []wire.Descriptor
	for i := range 300 { // each vouched for by two of ten
		d := viewtest.Relay(i, fmt.Sprintf("10.%d.%d.1:1", i%200, i/200), 0, now)
		honest = append(honest, d)
		v.Learn(d, at(i%10, fmt.Sprintf("10.%d.0.9:1", 200+i%10)))
		v.Learn(d, at((i+1)%10, fmt.Sprintf("10.%d.0.9:1", 200+(i+1)%10)))
	}
	if got := len(v.Usable()); got != len(honest) {
		t.Fatalf("got %d usable, want %d", got, len(honest))
	}
	for i := range 1200 { // told by forty of one /16, who vouch for each other
		d := viewtest.Relay(1000+i, fmt.Sprintf("10.%d.%d.2:1", i%200, i/200), 0, now)
		for j := range 3 {
			v.Learn(d, at(100+(i+j)%40, fmt.Sprintf("10.250.%d.1:1", (i+j)%40)))
		}
	}
	if got := len(v.relays); got != len(honest)+maxPerVoucher {
		t.Errorf("got %d relays, want %d: one /16 tells of %d at most", got, len(honest)+maxPerVoucher, maxPerVoucher)
	}
	if got := len(v.Usable()); got != len(honest) {
		t.Errorf("got %d usable, want %d: one /16 confirms nothing", got, len(honest))
	}
	// Nor can it use up the room: those go first who come from where most do.
	v = testView(nil)
	v.Learn(honest[0], at(1, "10.201.0.9:1"))
	few := viewtest.Relay(5000, "10.77.0.1:1", 0, now)
	for i := 1; i < maxPerVoucher; i++ {
		v.Learn(viewtest.Relay(1000+i, fmt.Sprintf("10.%d.%d.2:1", i%200, i/200), 0, now), at(2, "10.250.0.1:1"))
	}
	v.mu.Lock()
	for i := len(v.relays); i < maxView; i++ { // full of relays that were met
		v.relays[wire.NodeID{7, byte(i), byte(i >> 8)}] = &known{met: true}
	}
	v.mu.Unlock()
	for range 20 {
		v.Add(few, few.Node)
		if _, ok := v.Lookup(few.Node); !ok {
			t.Fatal("a relay that is met itself finds no room")
		}
		v.mu.Lock()
		v.dropLocked(few.Node, v.relays[few.Node])
		v.relays[wire.NodeID{8, byte(len(v.relays)), byte(len(v.charged))}] = &known{met: true}
		v.mu.Unlock()
		if _, ok := v.Lookup(honest[0].Node); !ok {
			t.Fatal("the only one that a peer told of had to go, not one of a flood")
		}
	}
}

func TestBackoff(t *testing.T) {
	now := time.Now()
	v := testView(func() time.Time { return now })
	d, other := viewtest.Relay(1, "10.1.0.1:1", 0, now), viewtest.Relay(2, "10.2.0.1:1", 0, now)
	add := func(d wire.Descriptor) {
		d.Issued, d.Expires = now.Truncate(time.Second), now.Truncate(time.Second).Add(wire.OnionLife)
		key := viewtest.Key(1)
		if d.Node == other.Node {
			key = viewtest.Key(2)
		}
		d.Sign(key, viewtest.Network)
		v.Add(d, d.Node)
	}
	usable := func() bool { _, ok := v.get(d.Node); return ok }
	add(d)
	add(other)
	for range 10 {
		v.Failed(d.Node)
	}
	if usable() {
		t.Error("used at once after a failure")
	}
	if v.Dead(d.Node) {
		t.Error("many failures at once count as more than one")
	}
	now = now.Add(firstBackoff)
	if !usable() {
		t.Error("not used after the back-off")
	}
	for range 2 * DeadAfter {
		v.Failed(d.Node)
		now = now.Add(longestBackoff / DeadAfter)
	}
	if v.Dead(d.Node) {
		t.Error("it counts as dead though nobody answers: this node is cut off")
	}
	v.Alive(other.Node)
	add(d)
	fail(v, &now, d.Node, other.Node, 1)
	add(d)
	fail(v, &now, d.Node, other.Node, 1)
	add(d)
	fail(v, &now, d.Node, other.Node, 1)
	if !v.Dead(d.Node) {
		t.Error("not dead")
	}
	changed := v.Wait()
	v.Alive(d.Node)
	select {
	case <-changed:
	default:
		t.Error("its return was not told")
	}
	k := v.relays[d.Node]
	k.own.fails, k.visits.fails, k.asked.fails = DeadAfter, DeadAfter, DeadAfter
	if add(d); !usable() {
		t.Error("a dead relay that comes back is not used")
	}
	now = now.Add(wire.OnionLife)
	v.Expire()
	if c, _ := v.Count(); c != 0 || len(v.hoods) != 0 || len(v.charged) != 0 {
		t.Error("expired relay is kept")
	}
}

func TestFile(t *testing.T) {
	v := testView(nil)
	for i := range 5 {
		d := viewtest.Relay(i, "10.1.0.1:1", 0, time.Now())
		v.Add(d, d.Node)
	}
	b := v.Bytes()
	if again := v.Bytes(); again != nil {
		t.Error("nothing has changed, and there is something to save")
	}
	w := testView(nil)
	w.Load(b)
	if len(w.Usable()) != 5 {
		t.Errorf("got %d relays, want 5", len(w.Usable()))
	}
	for _, damaged := range [][]byte{nil, b[:7], b[:len(b)-1], bytes.Replace(b, []byte{10, 1, 0, 1}, []byte{10, 2, 0, 1}, 1)} {
		if got := parse(damaged); len(got) != 0 {
			t.Errorf("read %d relays from a damaged file", len(got))
		}
	}
}

// A signature that is known does not vouch for other bytes.
func TestForgedRenewalIsRefused(t *testing.T) {
	v := testView(nil)
	d := viewtest.Relay(1, "10.1.0.1:1", 0, time.Now().Add(-time.Minute))
	v.Add(d, d.Node)
	forged := d
	forged.Issued = d.Issued.Add(30 * time.Second)
	forged.Addrs = []netip.AddrPort{netip.MustParseAddrPort("10.6.6.6:6")}
	for _, from := range []wire.NodeID{{8}, {9}, d.Node} {
		v.Add(forged, from)
	}
	if got, ok := v.get(d.Node); !ok || !slices.Equal(got.Addrs, d.Addrs) {
		t.Errorf("got %v, want %v", got.Addrs, d.Addrs)
	}
}

func FuzzFile(f *testing.F) {
	v := testView(nil)
	d := viewtest.Relay(1, "10.1.0.1:1", 0, time.Now())
	v.Add(d, d.Node)
	f.Add(v.Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) { parse(b) })
}

// What counts as capacity is the best that was measured, and fades slowly.
func TestCarried(t *testing.T) {
	v := testView(nil)
	d := viewtest.Relay(1, "10.1.0.1:1", 0, time.Now())
	v.Add(d, d.Node)
	v.Carried([]wire.NodeID{d.Node, {9}}, 100)
	v.Carried([]wire.NodeID{d.Node}, 10)
	if got := v.relays[d.Node].rate; got != 98 {
		t.Errorf("got %v, want 98: a slow path says little of one of its relays", got)
	}
	v.Carried([]wire.NodeID{d.Node}, 200)
	if got := v.relays[d.Node].rate; got != 200 {
		t.Errorf("got %v, want 200", got)
	}
}

// A relay that took its descriptor back counts again only with a newer one, or
// when it gives the old one itself.
func TestTakenBack(t *testing.T) {
	now := time.Now()
	v := testView(func() time.Time { return now })
	old, newer := viewtest.Relay(1, "10.1.0.1:1", 0, now.Add(-time.Hour)), viewtest.Relay(1, "10.1.0.1:1", 0, now)
	id := old.Node
	is := func(what string, want bool) {
		t.Helper()
		_, usable := v.get(id)
		_, hop := v.Hop(id, true)
		_, dials := v.Vouched(id)
		told := len(v.Sample(8)) == 1
		n, _ := v.Count()
		if got := n == 1; usable != want || hop != want || dials != want || told != want || got != want {
			t.Errorf("%s: usable %v, a hop %v, dialled %v, told %v, counted %v, want all %v", what, usable, hop, dials, told, got, want)
		}
	}
	v.TakenBack(id) // of a relay that is not known
	v.Add(old, id)
	is("told", true)
	v.TakenBack(id)
	is("taken back", false)
	v.Add(old, wire.NodeID{8})
	v.Add(old, wire.NodeID{9})
	is("told by others", false)
	v.Alive(id)
	is("visited", false)
	v.Add(old, id)
	is("told by itself", true)
	v.Outdated(wire.Descriptor{Node: id, Issued: old.Issued})
	is("as old without addresses", true)
	v.Outdated(wire.Descriptor{Node: id, Issued: old.Issued.Add(time.Second)})
	is("newer without addresses", false)
	v.Add(newer, wire.NodeID{8})
	is("newer by another", true)
}

// get returns the descriptor of id when it is confirmed and well at visits.
func (v *View) get(id wire.NodeID) (wire.Descriptor, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil || !v.usableLocked(k) {
		return wire.Descriptor{}, false
	}
	return k.desc, true
}
