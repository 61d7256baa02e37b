package node

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"wanderfs/node/view"
	"wanderfs/node/view/viewtest"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// What happens in this node's own paths changes nothing that others can see: a
// relay that fails one circuit could else ask around who does not tell of it
// any more, or asks it nothing, and knows whose the circuit was.
func TestOwnPathsDoNotShow(t *testing.T) {
	now := time.Now()
	v := testView(func() time.Time { return now })
	d, other := viewtest.Relay(1, "10.1.0.1:1", wire.FlagSuper, now), viewtest.Relay(2, "10.2.0.1:1", wire.FlagSuper, now)
	v.Add(d, d.Node)
	v.Add(other, other.Node)
	r := &router{view: v, self: &ownDescriptor{}}
	shown := func() bool {
		told := slices.ContainsFunc(v.Sample(10), func(x wire.Descriptor) bool { return x.Node == d.Node })
		kept := slices.ContainsFunc(v.Usable(), func(x wire.Descriptor) bool { return x.Node == d.Node })
		asked := slices.Contains(r.viewed([32]byte{}).first(8), d.Node)
		if told != kept || told != asked {
			t.Fatalf("told %v, kept %v, asked %v", told, kept, asked)
		}
		return told
	}
	b := newPaths(&relay.Builder{Network: refusing{}, NetworkName: viewtest.Network}, v, testChooser(t, v, nil), newHeldRelays(nil, v, nil))
	for range view.DeadAfter {
		if _, err := b.through(t.Context(), purposeLookup, []wire.Descriptor{d}, false); err == nil {
			t.Fatal("built")
		}
		if !shown() {
			t.Fatal("a failure in an own path shows")
		}
		now = now.Add(10 * time.Minute)
		v.Alive(other.Node)
	}
	if !field(v, d.Node).Dead {
		t.Error("the choice of hops did not learn of it")
	}
	if field(v, d.Node).Stale {
		t.Error("it is visited because it failed in an own path")
	}
	v.Failed(d.Node)
	if shown() {
		t.Fatal("one that cannot be visited is told of")
	}
	v.HopWorked(d.Node) // nor does success
	if shown() {
		t.Error("a success in an own path shows")
	}
	if field(v, d.Node).Failed {
		t.Error("the choice of hops did not learn of the success")
	}
	now = now.Add(view.FreshFor - 40*time.Minute) // 40 have passed
	v.HopWorked(d.Node)
	if c := field(v, d.Node); !c.Stale || !c.Up {
		t.Error("it is not visited because it works in an own path")
	}
}

// What others want of this node changes nothing in its choice of relays: who
// could make it fail at relays that he names would leave it with his own.
func TestOthersDoNotChangeOwnChoice(t *testing.T) {
	now := time.Now()
	v := testView(func() time.Time { return now })
	d, other := viewtest.Relay(1, "10.1.0.1:1", wire.FlagSuper, now), viewtest.Relay(2, "10.2.0.1:1", wire.FlagSuper, now)
	v.Add(d, d.Node)
	v.Add(other, other.Node)
	for range view.DeadAfter {
		v.AskFailed(d.Node)
		now = now.Add(10 * time.Minute)
		v.Alive(other.Node)
	}
	if c := field(v, d.Node); c.Failed || c.Silent || c.Dead || !c.Up {
		t.Error("index requests of others changed the choice of hops")
	}
	if len(v.Askable()) != 1 || !v.Dead(d.Node) {
		t.Error("it is asked again though it is dead")
	}
	if len(v.Usable()) != 2 {
		t.Error("it is not told of")
	}
}

// field gives a relay as the choice of hops sees it.
func field(v *view.View, id wire.NodeID) relay.Candidate {
	for _, c := range v.Candidates() {
		if c.Node == id {
			return c
		}
	}
	return relay.Candidate{Dead: true}
}

// refusing is a network in which nobody can be reached.
type refusing struct{}

func (refusing) Dial(context.Context, wire.Descriptor) (relay.Link, error) {
	return nil, errors.New("refused")
}
