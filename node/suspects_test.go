package node

import (
	"testing"
	"time"

	"wanderfs/relay/wire"
)

// What fell counts for a while, or until a path is built.
func TestSuspects(t *testing.T) {
	var s suspects
	now := time.Unix(1e9, 0)
	hop := func(n ...int) (out []wire.Descriptor) {
		for _, n := range n {
			out = append(out, testHop(n))
		}
		return out
	}
	want := func(what string, counts ...int) {
		t.Helper()
		for i, n := range counts {
			if got := s.of(testHop(i).Node, now); got != n {
				t.Errorf("%s: relay %d has %d, want %d", what, i, got, n)
			}
		}
	}
	want("at first", 0, 0, 0)
	s.fell(hop(0, 1), now)
	now = now.Add(suspectFor / 2)
	s.fell(hop(0, 2), now)
	want("after two", 2, 1, 1)
	s.passed(hop(2, 3))
	want("after one that was built", 2, 1, 0)
	now = now.Add(suspectFor / 2)
	want("later", 1, 0, 0)
	now = now.Add(suspectFor)
	s.fell(hop(3), now)
	want("much later", 0, 0, 0, 1)
	if len(s.falls) != 1 {
		t.Errorf("%d relays are remembered, want 1", len(s.falls))
	}
}

// Paths that fall over one relay for hours leave no more behind than those of
// the last seconds.
func TestSuspectsForget(t *testing.T) {
	var s suspects
	now := time.Now()
	entry, other := testHop(1), testHop(2)
	s.fell([]wire.Descriptor{entry, other}, now)
	for range 10000 {
		now = now.Add(suspectFor / 4)
		s.fell([]wire.Descriptor{entry}, now)
	}
	if got := s.of(entry.Node, now); got != 4 {
		t.Errorf("%d falls count, want 4", got)
	}
	if got := len(s.falls[entry.Node]); got != 4 {
		t.Errorf("%d falls are kept, want 4", got)
	}
	if _, kept := s.falls[other.Node]; kept {
		t.Error("a relay is remembered that is suspect no more")
	}
	s.passed([]wire.Descriptor{entry})
	if got := s.of(entry.Node, now); got != 0 {
		t.Errorf("%d falls count after a path was built, want 0", got)
	}
}
