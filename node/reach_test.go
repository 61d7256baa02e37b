package node

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
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
		_, ok := usable(by.view, m.t.id)
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
			for _, d := range o.view.Sample(maxExchange) {
				if d.Node == m.t.id {
					t.Errorf("round %d: it is told to others", round)
				}
			}
		}
	}
}
