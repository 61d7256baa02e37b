package node

import (
	"log/slog"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// harshNet is a network of relays of which every tenth is dead and every tenth
// refuses, and what a user needs to build paths in it.
type harshNet struct {
	net    *relaytest.Net
	relays []wire.Descriptor
}

func newHarshNet(t *testing.T, relays int) *harshNet {
	t.Helper()
	n, err := relaytest.New(relaytest.Config{
		Relays: relays, Limits: relay.Limits{Creates: 1e6, PerTarget: 1e6},
		Refuse: func(i int) bool { return i%10 == 3 },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	h := &harshNet{net: n}
	for i := range relays {
		h.relays = append(h.relays, n.Hops(i)...)
		if i%10 == 7 {
			n.Kill(i)
		}
	}
	return h
}

// user gives the paths of somebody who has met all relays but not tried any.
func (h *harshNet) user(t *testing.T) *paths {
	t.Helper()
	v := newView(wire.NodeID{1}, relaytest.Name, addrPolicy{lab: true}, nil)
	for _, d := range h.relays {
		v.add(d, d.Node)
	}
	b := h.net.Builder()
	b.HopTimeout = 10 * time.Second
	c, err := newChooser(v, nil, relay.ChoiceConfig{Settle: -1}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return newPaths(b, v, c)
}

// With a tenth of the relays dead and a tenth refusing, nineteen of twenty
// paths are built, by other later hops; and no user shows himself to a third
// entry because a later hop failed.
func TestBuildSuccess(t *testing.T) {
	const users, each = 30, 12
	h := newHarshNet(t, 40)
	state := make(map[wire.NodeID]bool) // works
	for i, d := range h.relays {
		state[d.Node] = i%10 != 3 && i%10 != 7
	}
	tries, good, cold := 0, 0, 0
	for range users {
		p := h.user(t)
		firsts := make(map[wire.NodeID]bool)
		for i := range each {
			tries++
			path, err := p.build(t.Context(), purposeLookup, nil, func() ([]wire.Descriptor, error) {
				hops, err := p.chooser.lookup(3)
				if err == nil {
					firsts[hops[0].Node] = true
				}
				return hops, err
			})
			if err != nil {
				t.Logf("build %d of a user: %v", i, err)
				continue
			}
			good++
			if i == 0 {
				cold++
			}
			if path.Hops() != 3 {
				t.Errorf("got %d hops, want 3", path.Hops())
			}
			path.Close()
		}
		reached := 0 // the others were drawn in vain and know nothing
		for id := range firsts {
			if state[id] {
				reached++
			}
		}
		if reached > 2 {
			t.Errorf("a user showed himself to %d entries, want at most 2", reached)
		}
	}
	share := float64(good) / float64(tries)
	t.Logf("%d of %d paths built, %.3f; of first ones %d of %d", good, tries, share, cold, users)
	if share < 0.95 {
		t.Errorf("%.3f of the paths are built, want at least 0.95", share)
	}
}
