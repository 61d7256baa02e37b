package node

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"wanderfs/relay/wire"
)

const testNetwork = "test-lab"

// testKey returns a key that depends on n only.
func testKey(n int) ed25519.PrivateKey {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	sum := sha256.Sum256(seed[:])
	return ed25519.NewKeyFromSeed(sum[:])
}

// testRelay returns a signed descriptor that depends on its arguments only.
func testRelay(n int, addr string, flags byte, issued time.Time) wire.Descriptor {
	d := wire.Descriptor{
		Onion: &wire.PublicKey{byte(n)}, Flags: flags, Issued: issued, Expires: issued.Add(wire.OnionLife),
		Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)},
	}
	if err := d.Sign(testKey(n), testNetwork); err != nil {
		panic(err)
	}
	return d
}

func testView(now func() time.Time) *view {
	return newView(wire.NodeID{1}, testNetwork, addrPolicy{lab: true}, now)
}

func TestVouchers(t *testing.T) {
	v := testView(nil)
	now := time.Now()
	d := testRelay(1, "10.1.0.1:1", 0, now)
	v.add(d, wire.NodeID{8})
	v.add(d, wire.NodeID{8})
	if got := len(v.usable()); got != 0 {
		t.Errorf("one voucher: got %d usable, want 0", got)
	}
	if _, visit := v.add(d, wire.NodeID{9}); !visit {
		t.Error("an unmet relay is worth a visit")
	}
	if got := len(v.usable()); got != 1 {
		t.Errorf("two vouchers: got %d usable, want 1", got)
	}
	if got := len(v.sample(10)); got != 0 {
		t.Errorf("vouched for %d relays that were never met", got)
	}
	e := testRelay(2, "10.2.0.1:1", 0, now)
	if met, _ := v.add(e, e.Node); !met {
		t.Error("met a relay, want so")
	}
	if got := len(v.sample(10)); got != 1 {
		t.Errorf("got a sample of %d, want 1", got)
	}
}

func TestHostileDescriptors(t *testing.T) {
	now := time.Now()
	forged := testRelay(3, "10.3.0.1:1", 0, now)
	forged.Addrs[0] = netip.MustParseAddrPort("10.66.0.1:1")
	otherNet := testRelay(4, "10.4.0.1:1", 0, now)
	otherNet.Sign(testKey(4), "test")
	old := testRelay(5, "10.5.0.1:1", 0, now.Add(-wire.OnionLife-time.Second))
	future := testRelay(6, "10.6.0.1:1", 0, now.Add(time.Hour))
	long := testRelay(7, "10.7.0.1:1", 0, now)
	long.Expires = now.Add(48 * time.Hour)
	long.Sign(testKey(7), testNetwork)
	public := testRelay(8, "8.8.8.8:1", 0, now)
	noPort := testRelay(9, "10.9.0.1:0", 0, now)
	none := testRelay(10, "10.9.0.1:1", 0, now)
	none.Addrs = nil
	none.Sign(testKey(10), testNetwork)
	for name, d := range map[string]wire.Descriptor{
		"forged": forged, "other network": otherNet, "expired": old, "future": future,
		"too long": long, "public in lab": public, "port 0": noPort, "no address": none,
	} {
		v := testView(nil)
		v.add(d, d.Node)
		if c, _ := v.count(); c != 0 {
			t.Errorf("%s: accepted", name)
		}
	}
	v := testView(nil)
	self := testRelay(1, "10.1.0.1:1", 0, now)
	v.self = self.Node
	v.add(self, self.Node)
	if c, _ := v.count(); c != 0 {
		t.Error("a node learned itself")
	}
}

// An older descriptor never replaces a newer one.
func TestNewestDescriptorWins(t *testing.T) {
	now := time.Now()
	v := testView(nil)
	newer, older := testRelay(1, "10.1.0.1:2", 0, now), testRelay(1, "10.1.0.1:1", 0, now.Add(-time.Minute))
	v.add(newer, newer.Node)
	v.add(older, wire.NodeID{7})
	if got, _ := v.get(newer.Node); got.Addrs[0].Port() != 2 {
		t.Errorf("got port %d, want 2", got.Addrs[0].Port())
	}
}

func TestViewIsBounded(t *testing.T) {
	v := testView(nil)
	now := time.Now()
	for i := range maxPerVoucher + 50 {
		v.add(testRelay(i, fmt.Sprintf("10.%d.0.1:1", i%200), 0, now), wire.NodeID{9})
	}
	if got := len(v.relays); got != maxPerVoucher {
		t.Errorf("one voucher: got %d relays, want %d", got, maxPerVoucher)
	}
	v = testView(nil)
	for i := range maxPerHood + 50 {
		d := testRelay(i, fmt.Sprintf("10.1.%d.1:1", i%250), 0, now)
		v.add(d, d.Node)
	}
	if got := len(v.relays); got != maxPerHood {
		t.Errorf("one /16: got %d relays, want %d", got, maxPerHood)
	}
}

// fail lets a relay fail n times that count: pauses pass, and others answer.
func fail(v *view, now *time.Time, id, other wire.NodeID, n int) {
	for range n {
		v.failed(id)
		*now = now.Add(longestBackoff)
		v.alive(other)
	}
}

// A flood of descriptors from one peer, or from many in one /16, confirms
// nothing and pushes nobody out.
func TestFloodOfDescriptors(t *testing.T) {
	v := testView(nil)
	now := time.Now()
	at := func(i int, addr string) source {
		return sourceAt(wire.NodeID{9, byte(i), byte(i >> 8)}, netip.MustParseAddrPort(addr))
	}
	var honest []wire.Descriptor
	for i := range 300 { // each vouched for by two of ten
		d := testRelay(i, fmt.Sprintf("10.%d.%d.1:1", i%200, i/200), 0, now)
		honest = append(honest, d)
		v.learn(d, at(i%10, fmt.Sprintf("10.%d.0.9:1", 200+i%10)))
		v.learn(d, at((i+1)%10, fmt.Sprintf("10.%d.0.9:1", 200+(i+1)%10)))
	}
	if got := len(v.usable()); got != len(honest) {
		t.Fatalf("got %d usable, want %d", got, len(honest))
	}
	for i := range 1200 { // told by forty of one /16, who vouch for each other
		d := testRelay(1000+i, fmt.Sprintf("10.%d.%d.2:1", i%200, i/200), 0, now)
		for j := range 3 {
			v.learn(d, at(100+(i+j)%40, fmt.Sprintf("10.250.%d.1:1", (i+j)%40)))
		}
	}
	if got := len(v.relays); got != len(honest)+maxPerVoucher {
		t.Errorf("got %d relays, want %d: one /16 tells of %d at most", got, len(honest)+maxPerVoucher, maxPerVoucher)
	}
	if got := len(v.usable()); got != len(honest) {
		t.Errorf("got %d usable, want %d: one /16 confirms nothing", got, len(honest))
	}
	// Nor can it use up the room: those go first who come from where most do.
	v = testView(nil)
	v.learn(honest[0], at(1, "10.201.0.9:1"))
	few := testRelay(5000, "10.77.0.1:1", 0, now)
	for i := 1; i < maxPerVoucher; i++ {
		v.learn(testRelay(1000+i, fmt.Sprintf("10.%d.%d.2:1", i%200, i/200), 0, now), at(2, "10.250.0.1:1"))
	}
	v.mu.Lock()
	for i := len(v.relays); i < maxView; i++ { // full of relays that were met
		v.relays[wire.NodeID{7, byte(i), byte(i >> 8)}] = &known{met: true}
	}
	v.mu.Unlock()
	for range 20 {
		v.add(few, few.Node)
		if _, ok := v.lookup(few.Node); !ok {
			t.Fatal("a relay that is met itself finds no room")
		}
		v.mu.Lock()
		v.dropLocked(few.Node, v.relays[few.Node])
		v.relays[wire.NodeID{8, byte(len(v.relays)), byte(len(v.charged))}] = &known{met: true}
		v.mu.Unlock()
		if _, ok := v.lookup(honest[0].Node); !ok {
			t.Fatal("the only one that a peer told of had to go, not one of a flood")
		}
	}
}

func TestBackoff(t *testing.T) {
	now := time.Now()
	v := testView(func() time.Time { return now })
	d, other := testRelay(1, "10.1.0.1:1", 0, now), testRelay(2, "10.2.0.1:1", 0, now)
	add := func(d wire.Descriptor) {
		d.Issued, d.Expires = now.Truncate(time.Second), now.Truncate(time.Second).Add(wire.OnionLife)
		key := testKey(1)
		if d.Node == other.Node {
			key = testKey(2)
		}
		d.Sign(key, testNetwork)
		v.add(d, d.Node)
	}
	usable := func() bool { _, ok := v.get(d.Node); return ok }
	add(d)
	add(other)
	for range 10 {
		v.failed(d.Node)
	}
	if usable() {
		t.Error("used at once after a failure")
	}
	if v.dead(d.Node) {
		t.Error("many failures at once count as more than one")
	}
	now = now.Add(firstBackoff)
	if !usable() {
		t.Error("not used after the back-off")
	}
	for range 2 * deadAfter {
		v.failed(d.Node)
		now = now.Add(longestBackoff / deadAfter)
	}
	if v.dead(d.Node) {
		t.Error("it counts as dead though nobody answers: this node is cut off")
	}
	v.alive(other.Node)
	add(d)
	fail(v, &now, d.Node, other.Node, 1)
	add(d)
	fail(v, &now, d.Node, other.Node, 1)
	add(d)
	fail(v, &now, d.Node, other.Node, 1)
	if !v.dead(d.Node) {
		t.Error("not dead")
	}
	changed := v.wait()
	v.alive(d.Node)
	select {
	case <-changed:
	default:
		t.Error("its return was not told")
	}
	kill(v, d.Node)
	if add(d); !usable() {
		t.Error("a dead relay that comes back is not used")
	}
	now = now.Add(wire.OnionLife)
	v.expire()
	if c, _ := v.count(); c != 0 || len(v.hoods) != 0 || len(v.charged) != 0 {
		t.Error("expired relay is kept")
	}
}

func TestViewFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), viewFile)
	v := testView(nil)
	for i := range 5 {
		d := testRelay(i, "10.1.0.1:1", 0, time.Now())
		v.add(d, d.Node)
	}
	if err := v.save(name); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", fi.Mode(), err)
	}
	w := testView(nil)
	if err := w.load(name); err != nil || len(w.usable()) != 5 {
		t.Errorf("got %d relays, %v; want 5", len(w.usable()), err)
	}
	b, _ := os.ReadFile(name)
	for _, damaged := range [][]byte{nil, b[:7], b[:len(b)-1], bytes.Replace(b, []byte{10, 1, 0, 1}, []byte{10, 2, 0, 1}, 1)} {
		if got := parseView(damaged); len(got) != 0 {
			t.Errorf("read %d relays from a damaged file", len(got))
		}
	}
}

// A signature that is known does not vouch for other bytes.
func TestForgedRenewalIsRefused(t *testing.T) {
	v := testView(nil)
	d := testRelay(1, "10.1.0.1:1", 0, time.Now().Add(-time.Minute))
	v.add(d, d.Node)
	forged := d
	forged.Issued = d.Issued.Add(30 * time.Second)
	forged.Addrs = []netip.AddrPort{netip.MustParseAddrPort("10.6.6.6:6")}
	for _, from := range []wire.NodeID{{8}, {9}, d.Node} {
		v.add(forged, from)
	}
	if got, ok := v.get(d.Node); !ok || !slices.Equal(got.Addrs, d.Addrs) {
		t.Errorf("got %v, want %v", got.Addrs, d.Addrs)
	}
}

func FuzzParseView(f *testing.F) {
	v := testView(nil)
	name := filepath.Join(f.TempDir(), "v")
	d := testRelay(1, "10.1.0.1:1", 0, time.Now())
	v.add(d, d.Node)
	v.save(name)
	b, _ := os.ReadFile(name)
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) { parseView(b) })
}

func FuzzExchange(f *testing.F) {
	ds := []wire.Descriptor{testRelay(1, "10.1.0.1:1", 0, time.Unix(1e9, 0)), testRelay(2, "[fd00::1]:9", 1, time.Unix(1e9, 0))}
	f.Add(appendExchange(nil, exchange{kind: kindAnswer, ds: ds, held: []wire.Held{testHeld(f, 3, ds[0].Node, ds[1].Node)}}))
	f.Add(appendExchange(nil, exchange{kind: kindAsk}))
	f.Add([]byte{1, 2, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		e, err := readExchange(r)
		if err != nil {
			return
		}
		if got, want := appendExchange(nil, e), b[:len(b)-r.Len()]; !bytes.Equal(got, want) {
			t.Errorf("re-encoded differently")
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 7})
	f.Add([]byte{255, 0, 0, 1, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := readMessage(bytes.NewReader(b)); err == nil && len(m) > len(b) {
			t.Error("more bytes than there were")
		}
	})
}

// What counts as capacity is the best that was measured, and fades slowly.
func TestCarried(t *testing.T) {
	v := testView(nil)
	d := testRelay(1, "10.1.0.1:1", 0, time.Now())
	v.add(d, d.Node)
	v.carried([]wire.NodeID{d.Node, {9}}, 100)
	v.carried([]wire.NodeID{d.Node}, 10)
	if got := v.relays[d.Node].rate; got != 98 {
		t.Errorf("got %v, want 98: a slow path says little of one of its relays", got)
	}
	v.carried([]wire.NodeID{d.Node}, 200)
	if got := v.relays[d.Node].rate; got != 200 {
		t.Errorf("got %v, want 200", got)
	}
}

// get returns the descriptor of id when it is confirmed and well at visits.
func (v *view) get(id wire.NodeID) (wire.Descriptor, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil || !v.usableLocked(k) {
		return wire.Descriptor{}, false
	}
	return k.desc, true
}
