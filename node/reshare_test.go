package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/relay/wire"
)

// numberedRoute is a way to a session that nobody can take.
type numberedRoute wire.SessionNumber

func (r numberedRoute) Session() wire.SessionNumber { return wire.SessionNumber(r) }

func (numberedRoute) Gateway() (id wire.NodeID) { return id }

func (numberedRoute) Dial(context.Context, []byte) (io.ReadWriteCloser, error) {
	return nil, errors.New("no such session")
}

// numbered gives n sessions, two routes to each.
func numbered(n int) (out []fetch.Route) {
	for i := range n {
		out = append(out, numberedRoute{byte(i)}, numberedRoute{byte(i)})
	}
	return out
}

// loneResharer is that of a node which knows nobody, with as many sources for
// everything as the test says.
func loneResharer(t *testing.T, timing reshareTiming, change func(*Config)) (n *Node, r *resharer, sources *atomic.Int64) {
	t.Helper()
	n = labNode(t, nil, change)
	sources = new(atomic.Int64)
	find := func(context.Context, chunk.Ref) ([]fetch.Route, error) {
		if k := sources.Load(); k >= 0 {
			return numbered(int(k)), nil
		}
		return nil, errors.New("no path")
	}
	setup := &publishing{paths: n.paths, view: n.mesh.view, shares: n.mesh.t.shares, hops: 2, life: time.Hour}
	r = newResharer(n.mesh.t.network, n.cache, n.share, n.lookups, setup, find, timing, n.cfg.Log)
	t.Cleanup(func() { r.Close() })
	return n, r, sources
}

// holder returns the group that offers root, nil if none does.
func (r *resharer) holder(root chunk.Ref) *reshareGroup {
	for _, g := range r.list() {
		if g.holds(root) {
			return g
		}
	}
	return nil
}

func (r *resharer) waits(root chunk.Ref) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.waiting[root]
	return ok
}

// putTree puts a file of three chunks into n's cache, without the chunks that
// are left out, and returns its blocks, the root last.
func putTree(t *testing.T, n *Node, leaveOut int) (root chunk.Ref, blocks []chunk.Ref, missing map[chunk.Ref][]byte) {
	t.Helper()
	content := make([]byte, 2<<20+100)
	rand.Read(content)
	missing = make(map[chunk.Ref][]byte)
	e, err := chunk.ImportFile(t.Context(), bytes.NewReader(content), int64(len(content)), treeSink{content, func(r chunk.Ref, b []byte) error {
		blocks = append(blocks, r)
		if len(missing) < leaveOut {
			missing[r] = slices.Clone(b)
			return nil
		}
		return n.cache.PutVerified(r, b)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return e.Ref, blocks, missing
}

// treeSink hands on the blocks of a file.
type treeSink struct {
	content []byte
	put     func(chunk.Ref, []byte) error
}

func (s treeSink) Node(r chunk.Ref, b []byte) error { return s.put(r, b) }

func (s treeSink) Leaf(r chunk.Ref, off, n int64) error { return s.put(r, s.content[off:off+n]) }

var quickly = reshareTiming{after: time.Millisecond, check: 20 * time.Millisecond}

// Content is offered when all of it is here and not before; its group answers
// for it and for nothing else in the cache.
func TestReshareWholeTreesOnly(t *testing.T) {
	n, r, sources := loneResharer(t, quickly, nil)
	sources.Store(reshareSources)
	root, blocks, missing := putTree(t, n, 1)
	other, _, _ := putTree(t, n, 0)
	r.seen(root, numbered(reshareSources))
	for range 3 {
		<-r.rounds
	}
	if !r.waits(root) || r.holder(root) != nil {
		t.Fatal("a part of a tree is offered")
	}
	for ref, b := range missing {
		if err := n.cache.PutVerified(ref, b); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, patience, "the whole tree to be offered", func() bool { return r.holder(root) != nil })
	g := r.holder(root)
	for _, b := range blocks {
		if data, err := g.Block(t.Context(), b); err != nil || b.Verify(data) != nil {
			t.Errorf("a block of it: %v", err)
		}
	}
	for _, b := range []chunk.Ref{other, chunk.Raw([]byte("never seen"))} {
		if _, err := g.Block(t.Context(), b); err != errNotOffered {
			t.Errorf("what it does not offer: %v", err)
		}
	}
	if got := r.offered(); got != 0 {
		t.Errorf("%d count as offered, though nobody can find them", got)
	}
}

// Too few sources, when it was read or when the delay is over, and nothing is
// offered. A look-up that fails decides nothing; own sessions do not count.
func TestReshareNeedsSources(t *testing.T) {
	n, r, sources := loneResharer(t, quickly, nil)
	root, _, _ := putTree(t, n, 0)
	r.seen(root, numbered(reshareSources-1))
	if r.waits(root) {
		t.Error("it waits, with too few sources when it was read")
	}
	r.setup.own.note(wire.SessionNumber{1}, time.Now().Add(time.Hour))
	r.seen(root, numbered(reshareSources))
	if r.waits(root) {
		t.Error("an own session counts as a source")
	}
	sources.Store(-1)
	r.seen(root, numbered(reshareSources+1))
	for range 3 {
		<-r.rounds
	}
	if !r.waits(root) || len(r.list()) > 0 {
		t.Error("a look-up that failed decided")
	}
	// Another one counts again so late that it could not take back what it offers.
	n, r, sources = loneResharer(t, reshareTiming{after: time.Millisecond}, nil)
	root, _, _ = putTree(t, n, 0)
	r.setup.own.note(wire.SessionNumber{1}, time.Now().Add(time.Hour))
	sources.Store(reshareSources) // one of them is its own
	r.seen(root, numbered(reshareSources+1))
	eventually(t, patience, "the decision", func() bool { return !r.waits(root) })
	if len(r.list()) > 0 {
		t.Error("it is offered with too few sources at the end of the delay")
	}
}

// What is offered is withdrawn when sources get few, when the cache loses a
// part, and when the user shares it himself; the group ends with it.
func TestReshareWithdraws(t *testing.T) {
	offered := func(t *testing.T, n *Node, r *resharer, sources *atomic.Int64) (chunk.Ref, []chunk.Ref, *reshareGroup) {
		sources.Store(reshareSources)
		root, blocks, _ := putTree(t, n, 0)
		r.seen(root, numbered(reshareSources))
		eventually(t, patience, "the offer", func() bool { return r.holder(root) != nil })
		return root, blocks, r.holder(root)
	}
	over := func(t *testing.T, r *resharer, g *reshareGroup, b chunk.Ref) {
		t.Helper()
		eventually(t, patience, "its end", func() bool { return len(r.list()) == 0 })
		<-g.ctx.Done()
		if _, err := g.Block(t.Context(), b); err != errNotOffered {
			t.Errorf("after its end: %v", err)
		}
	}
	t.Run("sources", func(t *testing.T) {
		n, r, sources := loneResharer(t, quickly, nil)
		root, blocks, g := offered(t, n, r, sources)
		sources.Store(-1)
		for range 3 {
			<-r.rounds
		}
		if r.holder(root) == nil {
			t.Error("a look-up that failed withdraws")
		}
		sources.Store(reshareSources - 1)
		over(t, r, g, blocks[0])
	})
	t.Run("cache", func(t *testing.T) {
		n, r, sources := loneResharer(t, quickly, func(c *Config) { c.CacheSize = 8 << 20 })
		_, blocks, g := offered(t, n, r, sources)
		for filler := make([]byte, 1<<20); n.cache.Has(blocks[0]); {
			rand.Read(filler)
			if err := n.cache.PutVerified(chunk.Raw(filler), filler); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.Block(t.Context(), blocks[0]); err != errNotOffered {
			t.Errorf("an evicted block: %v", err)
		}
		over(t, r, g, blocks[1])
	})
	t.Run("own share", func(t *testing.T) {
		n, r, sources := loneResharer(t, quickly, nil)
		root, blocks, g := offered(t, n, r, sources)
		var content []byte
		for _, b := range blocks {
			if b.IsRaw() {
				data, err := n.cache.Get(b)
				if err != nil {
					t.Fatal(err)
				}
				content = append(content, data...)
			}
		}
		if err := os.WriteFile(filepath.Join(n.Share().Dir(), "mine.bin"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		over(t, r, g, blocks[0])
		if got := n.Share().State("mine.bin").Ref; got != root {
			t.Error("it was withdrawn for another reason")
		}
	})
	t.Run("end of the process", func(t *testing.T) {
		n, r, sources := loneResharer(t, quickly, nil)
		_, _, g := offered(t, n, r, sources)
		r.Close()
		r.Close()
		<-g.ctx.Done()
		if len(r.list()) > 0 || len(r.sessions()) > 0 {
			t.Error("a group outlived its resharer")
		}
	})
}

// The first contents get a group each; all groups together hold a bounded
// number, and the rest waits.
func TestReshareIsBounded(t *testing.T) {
	n, r, sources := loneResharer(t, reshareTiming{after: time.Millisecond, check: time.Hour}, nil)
	sources.Store(reshareSources)
	const most = maxReshareGroups * maxReshareRoots
	var roots []chunk.Ref
	for i := range most + 3 {
		b := []byte{byte(i), 'x'}
		ref := chunk.Raw(b)
		if err := n.cache.PutVerified(ref, b); err != nil {
			t.Fatal(err)
		}
		roots = append(roots, ref)
		r.seen(ref, numbered(reshareSources))
		if i < most {
			eventually(t, patience, "an offer", func() bool { return r.holder(ref) != nil })
		}
		if i < maxReshareGroups && len(r.list()) != i+1 {
			t.Errorf("%d groups for %d contents", len(r.list()), i+1)
		}
	}
	eventually(t, patience, "the rest to wait", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.waiting) == len(roots)-most
	})
	total := 0
	for _, g := range r.list() {
		total += g.len()
		if g.len() > maxReshareRoots {
			t.Errorf("a group of %d", g.len())
		}
		for _, ref := range roots {
			if _, err := g.Block(t.Context(), ref); (err == nil) != g.holds(ref) {
				t.Errorf("a group answers for what is not its own: %v", err)
			}
		}
	}
	if len(r.list()) != maxReshareGroups || total != most {
		t.Errorf("%d groups with %d contents, want %d with %d", len(r.list()), total, maxReshareGroups, most)
	}
	for i := range 2 * maxReshareWaiting {
		r.seen(chunk.Raw([]byte{byte(i), byte(i >> 8), 'w'}), numbered(reshareSources))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) > maxReshareWaiting {
		t.Errorf("%d wait", len(r.waiting))
	}
}
