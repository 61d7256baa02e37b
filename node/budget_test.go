package node

import (
	"reflect"
	"testing"
	"time"

	"wanderfs/relay"
)

// TestShareOfLinks: own paths send from the own share, those of a session from
// one budget; circuits of others send from theirs.
func TestShareOfLinks(t *testing.T) {
	ms := startMeshes(t, 2)
	waitFor(t, ms[1], patience, "a relay", func() bool { return len(ms[1].view.Usable()) == 1 })
	d := ms[1].view.Usable()[0]
	m := ms[1].t
	m.shares = relay.NewShares(1<<20, true)
	others := neighbours{t: m}
	own := ownNetwork{others}
	budget := m.shares.Session()
	session := withBudget(t.Context(), budget)
	dial := func(n relay.Network, inSession bool) *relay.Budget {
		t.Helper()
		ctx := t.Context()
		if inSession {
			ctx = session
		}
		l, err := n.Dial(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Reset()
		return l.(*link).up
	}
	if got := dial(others, false); !reflect.DeepEqual(got, m.shares.Relayed()) {
		t.Error("a circuit of others does not send from their share")
	}
	for range 2 {
		if got := dial(own, true); got != budget {
			t.Error("a session's path has another budget")
		}
	}
	a, b := dial(own, false), dial(own, false)
	if a == nil || a == b || a == budget || reflect.DeepEqual(a, m.shares.Relayed()) {
		t.Error("a path of no session has no budget of its own")
	}
	m.shares = nil
	if dial(others, false) != nil || dial(own, false) != nil {
		t.Error("a budget where nothing bounds")
	}
}

// TestLinkResetFreesWriter: who waits for a slow share is let go with the link.
func TestLinkResetFreesWriter(t *testing.T) {
	ms := startMeshes(t, 2)
	waitFor(t, ms[1], patience, "a relay", func() bool { return len(ms[1].view.Usable()) == 1 })
	m := ms[1].t
	m.shares = relay.NewShares(1, true)
	l, err := neighbours{t: m}.Dial(t.Context(), ms[1].view.Usable()[0])
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for b := make([]byte, 16<<10); err == nil; {
			_, err = l.Write(b)
		}
		done <- err
	}()
	l.Reset()
	select {
	case err := <-done:
		if err != errBroken {
			t.Errorf("got %v, want errBroken", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("Write waits on")
	}
}

func TestJoinEffort(t *testing.T) {
	for set, want := range map[int]int{0: relay.DefaultEffort, -1: -1, 20: 20} {
		c, err := Config{Data: "x", JoinEffort: set}.complete()
		if err != nil || c.JoinEffort != want {
			t.Errorf("%d: got %d and %v, want %d", set, c.JoinEffort, err, want)
		}
	}
	if _, err := (Config{Data: "x", JoinEffort: 25}).complete(); err == nil {
		t.Error("more than a session may ask for was taken")
	}
}
