package node

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/relay/wire"
)

// lookFinder counts over how many far ends a task looks for sources.
type lookFinder struct {
	l     *legs
	far   int // drawn
	looks int
	// find gives what look number n finds.
	find func(n int) []fetch.Route
}

// Find implements fetch.Finder.
func (f *lookFinder) Find(ctx context.Context, _ chunk.Ref) ([]fetch.Route, error) {
	f.looks++
	if f.l.look(ctx) == nil {
		f.far++
		f.l.looked([]wire.Descriptor{testHop(1), testHop(10), testHop(3000 + f.far)})
	}
	out := f.find(f.looks)
	f.l.found(len(out) > 0)
	return out, nil
}

// A task whose paths fail looks for sources again and again, but not at other
// far ends: what it knows of them works. Where no source is found, a few are
// asked; and when sources vanish, each other far end costs a draw.
func TestLookingAgainDrawsNobody(t *testing.T) {
	fails := finderFunc(func(context.Context, []byte) (io.ReadWriteCloser, error) { return nil, errors.New("failed") })
	for _, x := range []struct {
		name string
		find func(n int) []fetch.Route
		want int
	}{
		{"found", func(int) []fetch.Route { return []fetch.Route{fails} }, 1},
		{"never found", func(int) []fetch.Route { return nil }, freeLooks},
		{"vanished", func(n int) []fetch.Route {
			if n == 1 {
				return []fetch.Route{fails}
			}
			return nil
		}, 1 + 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			lf := &lookFinder{l: newWood().book().of(contentRoot), find: x.find}
			f := fetch.New(fetch.Config{Finder: lf})
			start := time.Now()
			for time.Since(start) < 9*time.Minute {
				task := f.Task(contentRoot)
				if _, err := task.Get(t.Context(), contentRoot); err == nil {
					t.Error("got something")
				}
				task.Release()
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if lf.far != x.want || lf.looks < 20 {
				t.Errorf("%s: %d far ends were asked in %d looks, want %d", x.name, lf.far, lf.looks, x.want)
			}
		})
	}
}

// While nobody answers it may be this node that is cut off: look-ups that fail
// then draw nobody.
func TestLookingWhileCutOffDrawsNobody(t *testing.T) {
	book := newWood().book()
	cutOff := false
	book.doubt = func() bool { return cutOff }
	l := book.of(contentRoot)
	first := []wire.Descriptor{testHop(1), testHop(10), testHop(1000)}
	l.looked(first)
	l.found(true)
	cutOff = true
	for range 10 {
		if got := l.look(t.Context()); len(got) == 0 || got[2].Node != first[2].Node {
			t.Fatal("another far end is asked while nobody answers")
		}
		l.found(false)
	}
	cutOff = false
	if l.look(t.Context()) != nil {
		t.Error("no other far end is asked when the one does not answer and others do")
	}
}

// A path keeps the relays that it was built over, whatever is known of them
// later: others read them without a lock.
func TestLookLeavesAPathsRelays(t *testing.T) {
	book := newWood().book()
	issued := time.Unix(1, 0)
	book.get = func(id wire.NodeID, _ bool) (wire.Descriptor, bool) {
		return wire.Descriptor{Node: id, Issued: issued}, true
	}
	l := book.of(contentRoot)
	first := []wire.Descriptor{testHop(1), testHop(10), testHop(1000)}
	l.looked(first)
	l.found(true)
	second := l.look(t.Context())
	issued = time.Unix(2, 0)
	if third := l.look(t.Context()); third[0].Issued != issued {
		t.Errorf("a look is over a descriptor of %v, want %v", third[0].Issued, issued)
	}
	if !first[0].Issued.IsZero() || second[0].Issued != time.Unix(1, 0) {
		t.Error("a look has changed the relays of paths before it")
	}
}
