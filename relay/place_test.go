package relay_test

import (
	"strings"
	"testing"

	"wanderfs/relay/wire"
)

// This test is the adversary: a relay that keeps all that crosses its links,
// and wants to know its place. It may compare with as many circuits of which
// it knows the place as it likes.
//
//	builder - 1 - 2 - ... - k - ... - n     the relay is k, n the far end
//
// It asks: what is k? is the neighbour before me the builder (k = 1)? is the
// one behind me the far end (n = k+1)? Of single circuits it looks at sizes,
// numbers, order, key turns, ends and repeated bytes, and lets a classifier
// guess from the bytes. Of all circuits together it compares the bytes, place
// by place, of frames of each kind by itself, and how the circuits ended.

// planted is one way of giving a place away, and what the adversary is to say.
type planted struct {
	name  string
	plant func(*sight)
	want  []string
	many  bool // it takes many circuits to see
}

var plants = []planted{
	{"set-ups without filler", func(s *sight) {
		if s.k > 1 {
			s.frames[setupIn] = blank(s.frames[setupIn], wire.FrameSize-2589, wire.FrameSize)
		}
		s.frames[setupOut] = blank(s.frames[setupOut], wire.FrameSize-2589, wire.FrameSize)
	}, []string{"bytes of SETUP in"}, false},
	{"backward frames without a tail", func(s *sight) {
		for _, kind := range []int{puzzleOut, turnBackOut, closeBackOut} {
			if s.k == s.n-1 {
				s.frames[kind] = blank(s.frames[kind], wire.FrameSize-16, wire.FrameSize)
			}
		}
	}, []string{"bytes of PUZZLE out", "bytes of turned backward out", "bytes of last backward out"}, false},
	{"backward keys that are new one frame late", func(s *sight) {
		if s.k > 3 {
			s.order = strings.Replace(s.order, "ub", "bu", 1)
		}
	}, []string{"circuits look at place"}, false},
	{"one frame more with a SOLUTION", func(s *sight) {
		if s.k == 1 && len(s.frames[solutionIn]) > 0 {
			s.order += "f"
		}
	}, []string{"circuits look at place"}, false},
	{"numbers at the end", func(s *sight) { s.late[1] += 60 * s.k }, []string{"from numbers"}, false},
	{"builders that break a connection to end a path", func(s *sight) {
		s.frames = [kinds][][]byte{}
		if s.k == 1 && s.end == "<R" {
			s.end = "<X"
		}
	}, []string{"how often links end <X"}, true},
	{"builders that no connection breaks for", func(s *sight) {
		s.frames = [kinds][][]byte{}
		if s.k == 1 && s.end == "<X" {
			s.end = "<R"
		}
	}, []string{"rules out place 1"}, true},
}

// TestPlace: no relay learns its place from sizes, numbers, order and bytes of
// what it sees, of one circuit or of 500 through the same entry; it would
// without filler, in layers or in set-ups, and if ends of links told how the
// circuit ended elsewhere.
func TestPlace(t *testing.T) {
	circuits := 500
	if testing.Short() {
		circuits = 150
	}
	var fs []func(*sight)
	for _, p := range plants {
		fs = append(fs, p.plant)
	}
	seen, spoilt := newWatched(t, leak{}).watch(t, circuits, fs...)
	for _, f := range seen.judge(t) {
		t.Error(f)
	}
	for i, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			if p.many && testing.Short() {
				t.Skip("takes many circuits")
			}
			finds(t, spoilt[i], p.want...)
		})
	}
	for name, x := range map[string]struct {
		leak     leak
		circuits int
		brief    bool
		want     []string
	}{
		"layers without filler": {leak{first: true, later: true}, 40, false, []string{
			"bytes of forward in", "bytes of turned forward in", "bytes of SOLUTION in", "bytes of last forward in"}},
		"layers without filler after a turn": {leak{later: true}, 40, false, []string{"bytes of turned forward in"}},
		"ends that go on as they are":        {leak{ends: true}, 400, true, []string{"how often links end <R"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newWatched(t, x.leak)
			c.brief = x.brief
			seen, _ := c.watch(t, x.circuits)
			finds(t, seen, x.want...)
		})
	}
}

// finds fails unless the adversary says all this.
func finds(t *testing.T, a *adversary, want ...string) {
	t.Helper()
	found := a.judge(t)
	for _, w := range want {
		got := ""
		for _, f := range found {
			if strings.Contains(f, w) {
				got = f
			}
		}
		if got == "" {
			t.Errorf("nothing about %q was found: the adversary is too weak", w)
		} else {
			t.Log(got)
		}
	}
}
