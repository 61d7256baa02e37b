package node

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"

	"wanderfs/relay/wire"
)

// findsOut starts a node that learns by the returned function alone whether it
// can be dialled.
func findsOut(t *testing.T, bootstrap []string) (*mesh, func(public bool)) {
	t.Helper()
	c := labConfig(t)
	c.Bootstrap, c.auto = bootstrap, true
	m, err := newMesh(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	m.serve(echoRelay{}, echoStore{})
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	found, err := m.t.EventBus().Emitter(new(event.EvtHostReachableAddrsChanged), eventbus.Stateful)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { found.Close() })
	at := m.t.Network().ListenAddresses()
	return m, func(public bool) {
		e := event.EvtHostReachableAddrsChanged{Unreachable: at}
		if public {
			e = event.EvtHostReachableAddrsChanged{Reachable: at}
		}
		if err := found.Emit(e); err != nil {
			t.Fatal(err)
		}
	}
}

// What a node finds out about itself, all that are connected to it know soon:
// it is no relay to dial when it cannot be dialled any more, though they talk to
// it as before; and it is one again.
func TestReachabilityFlips(t *testing.T) {
	t.Parallel()
	ms := startMeshes(t, 4)
	m, set := findsOut(t, ms[0].t.fullAddrs())
	usable := func(by *mesh) bool {
		_, ok := by.view.get(m.t.id)
		return ok
	}
	for round := range 2 {
		set(true)
		eventually(t, patience, "all to know a relay more", func() bool {
			for _, o := range ms {
				if !usable(o) || o.t.Network().Connectedness(m.t.ID()) == 0 {
					return false
				}
			}
			return true
		})
		if _, ok := m.self.held(); ok {
			t.Errorf("round %d: a node that can be dialled is held", round)
		}
		set(false)
		begin := time.Now()
		eventually(t, patience, "all to know a relay less", func() bool {
			for _, o := range ms {
				if usable(o) {
					return false
				}
			}
			return true
		})
		t.Logf("all know after %v", time.Since(begin))
		if d, ok := m.self.held(); !ok || len(d.Addrs) != 0 {
			t.Errorf("round %d: got held descriptor %v with %d addresses", round, ok, len(d.Addrs))
		}
		for _, o := range ms {
			if got := o.t.Network().Connectedness(m.t.ID()); got == 0 {
				t.Errorf("round %d: a connection ended", round)
			}
			for _, d := range o.view.sample(maxExchange) {
				if d.Node == m.t.id {
					t.Errorf("round %d: it is told to others", round)
				}
			}
		}
	}
}

// A relay that took its descriptor back counts again only with a newer one, or
// when it gives the old one itself.
func TestTakenBack(t *testing.T) {
	now := time.Now()
	v := testView(func() time.Time { return now })
	old, newer := testRelay(1, "10.1.0.1:1", 0, now.Add(-time.Hour)), testRelay(1, "10.1.0.1:1", 0, now)
	id := old.Node
	is := func(what string, want bool) {
		t.Helper()
		_, usable := v.get(id)
		_, hop := v.hop(id, true)
		_, dials := v.vouched(id)
		told := len(v.sample(8)) == 1
		n, _ := v.count()
		if got := n == 1; usable != want || hop != want || dials != want || told != want || got != want {
			t.Errorf("%s: usable %v, a hop %v, dialled %v, told %v, counted %v, want all %v", what, usable, hop, dials, told, got, want)
		}
	}
	v.takenBack(id) // of a relay that is not known
	v.add(old, id)
	is("told", true)
	v.takenBack(id)
	is("taken back", false)
	v.add(old, wire.NodeID{8})
	v.add(old, wire.NodeID{9})
	is("told by others", false)
	v.alive(id)
	is("visited", false)
	v.add(old, id)
	is("told by itself", true)
	v.outdated(wire.Descriptor{Node: id, Issued: old.Issued})
	is("as old without addresses", true)
	v.outdated(wire.Descriptor{Node: id, Issued: old.Issued.Add(time.Second)})
	is("newer without addresses", false)
	v.add(newer, wire.NodeID{8})
	is("newer by another", true)
}
