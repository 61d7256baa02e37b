package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/index"
	"wanderfs/relay/wire"
)

// standing gives the session of a group and its standing paths.
func standing(g *shareGroup) (number wire.SessionNumber, paths []*ownPath) {
	g.mu.Lock()
	s := g.current
	g.mu.Unlock()
	if s == nil {
		return number, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.gateways {
		if w != nil && w.ready {
			paths = append(paths, w.path)
		}
	}
	return s.number, paths
}

// ownership notes which session number each path is seen with, and complains
// when one is seen with two.
type ownership struct {
	t       *testing.T
	numbers map[wire.SessionNumber]string // what for
	paths   map[*ownPath]wire.SessionNumber
}

func (o *ownership) see(what string, number wire.SessionNumber, paths []*ownPath) {
	o.t.Helper()
	if was, ok := o.numbers[number]; ok && was != what {
		o.t.Errorf("one session for %s and %s", was, what)
	}
	o.numbers[number] = what
	for _, p := range paths {
		if was, ok := o.paths[p]; ok && was != number {
			o.t.Errorf("a path of %s serves two sessions", what)
		}
		o.paths[p] = number
	}
}

// seeReading notes the sessions of n's reading tasks and returns how many paths
// they have.
func (o *ownership) seeReading(n *Node) (open int) {
	n.reads.mu.Lock()
	defer n.reads.mu.Unlock()
	for _, s := range n.reads.tasks {
		var paths []*ownPath
		for p := range s.open {
			paths = append(paths, p)
		}
		open += len(paths)
		o.see("reading", s.number, paths)
	}
	return open
}

// Five nodes share a file. One who reads it, and reshares, keeps it readable
// when they have gone; what only four share he never offers, and who does not
// reshare offers nothing.
func TestReshare(t *testing.T) {
	if testing.Short() {
		t.Skip("takes many seconds")
	}
	t.Parallel()
	boot, l := watchedNet(t, 7)
	hidden := func(c *Config) { c.Reachability, c.NoRelay = Private, true }
	common, rare, own := make([]byte, 2<<20+5), make([]byte, 1<<20+5), make([]byte, 1<<20+7)
	rand.Read(common)
	rand.Read(rare)
	rand.Read(own)
	put := func(n *Node, name string, content []byte) {
		if err := os.WriteFile(filepath.Join(n.Share().Dir(), name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	published := func(n *Node, name string) chunk.Ref {
		eventually(t, patience, "a file to be published", func() bool { return n.Share().State(name).Phase == "published" })
		return n.Share().State(name).Ref
	}
	var pubs []*Node
	for range reshareSources {
		pubs = append(pubs, labNode(t, boot, hidden))
	}
	reader := labNode(t, boot, func(c *Config) {
		hidden(c)
		c.Reshare, c.reshare = true, reshareTiming{after: 100 * time.Millisecond}
	})
	plain := labNode(t, boot, hidden)
	var many, few chunk.Ref
	for i, p := range pubs {
		put(p, "common thing.bin", common)
		if i > 0 {
			put(p, "rare thing.bin", rare)
		}
	}
	put(reader, "own thing.bin", own)
	for i, p := range pubs {
		many = published(p, "common thing.bin")
		if i > 0 {
			few = published(p, "rare thing.bin")
		}
	}
	mine := published(reader, "own thing.bin")
	r := reader.reshare
	eventually(t, patience, "all sources to be found", func() bool {
		a, aerr := r.count(many)
		b, berr := r.count(few)
		return aerr == nil && berr == nil && a == reshareSources && b == reshareSources-1
	})

	l.forget()
	seen := &ownership{t, make(map[wire.SessionNumber]string), make(map[*ownPath]wire.SessionNumber)}
	reading := 0
	for _, x := range []struct {
		n    *Node
		ref  chunk.Ref
		want []byte
	}{{reader, many, common}, {reader, few, rare}, {plain, many, common}} {
		var got []byte
		var err error
		eventually(t, patience, "a source", func() bool { // a look-up ends after ten seconds, and others are searching, too
			got, err = readAll(t.Context(), x.n, x.ref)
			return !errors.Is(err, ErrNotFound)
		})
		if err != nil || !bytes.Equal(got, x.want) {
			t.Fatalf("got %d bytes and %v, want %d", len(got), err, len(x.want))
		}
		if x.n == reader {
			reading += seen.seeReading(reader)
		}
	}
	if reading == 0 {
		t.Fatal("no path of a reading task was seen")
	}
	eventually(t, patience, "it to be offered", func() bool {
		seen.seeReading(reader)
		if !r.waits(many) && r.holder(many) == nil { // a look-up met too few stores: a reader asks again
			if routes, err := r.find(t.Context(), many); err == nil {
				r.seen(many, routes)
			}
		}
		return reader.Status().Shared.Reshared == 1
	})
	g := r.holder(many)
	if g == nil {
		t.Fatal("another content is offered")
	}
	// Even one that got past the first look-up is stopped by the second.
	r.mu.Lock()
	if _, ok := r.waiting[few]; ok {
		t.Error("what four share waits to be offered")
	}
	r.waiting[few] = awaited{born: time.Now(), due: time.Now()}
	r.mu.Unlock()
	signal(r.kick)
	eventually(t, patience, "the look-up", func() bool { return !r.waits(few) })
	if r.holder(few) != nil || len(r.list()) != 1 {
		t.Error("what four share is offered")
	}
	if n := len(publisherNumbers(plain)); n > 0 || plain.Status().Shared.Reshared > 0 || plain.reshare != nil {
		t.Errorf("who does not reshare has %d publishing sessions", n)
	}

	// Sessions and paths of its own.
	seen.seeReading(reader)
	for _, o := range sharedGroups(reader) {
		number, paths := standing(o)
		seen.see("own shares", number, paths)
		if len(paths) == 0 {
			t.Error("the own share is not at a gateway")
		}
	}
	for _, i := range reader.share.Groups() {
		if _, err := (groupBlocks{reader.share, i}).Block(t.Context(), many); err == nil {
			t.Error("a session of own shares answers for what was read")
		}
	}
	number, paths := standing(g.group)
	seen.see("resharing", number, paths)
	if len(paths) == 0 {
		t.Error("what was read is offered at no gateway")
	}
	for _, other := range []chunk.Ref{mine, few} {
		if _, err := g.Block(t.Context(), other); err != errNotOffered {
			t.Errorf("the group answers for other content: %v", err)
		}
	}
	checkReshared(t, l, g, many)

	var wg sync.WaitGroup
	for _, p := range pubs {
		wg.Go(func() { p.Close() })
	}
	wg.Wait()
	read := func(within time.Duration) ([]byte, error) {
		n := labNode(t, boot, hidden)
		defer n.Close()
		eventually(t, patience, "a path", func() bool { return n.Status().Ready })
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return readAll(ctx, n, many)
	}
	begin := time.Now()
	if got, err := read(3 * time.Minute); err != nil || !bytes.Equal(got, common) {
		t.Fatalf("from who reshares: %d bytes and %v", len(got), err)
	}
	t.Logf("read from who reshares after %v", time.Since(begin))
	// Those who only read it, and those who share it no longer, give nothing.
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := read(10 * time.Second); err == nil {
		t.Errorf("got %d bytes though nobody offers them", len(got))
	}
}

// checkReshared holds what the far ends saw against the rules: no name, one
// pointer, a path for each thing.
func checkReshared(t *testing.T, l *farLog, g *reshareGroup, root chunk.Ref) {
	t.Helper()
	for _, broken := range violations(l, noGroup) {
		t.Error(broken)
	}
	want, err := g.group.record.Pointer(root, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pointers, records := 0, 0
	for _, reqs := range l.byCircuit() {
		for _, req := range reqs {
			for _, rec := range putRecords(req) {
				switch {
				case rec.Kind() == index.Posting:
					t.Error("a name was put")
				case rec.Kind() == index.Pointer && rec.Address() == want.Address() && signerOf(rec) == signerOf(want):
					pointers++
				case rec.Kind() == index.Pointer:
					t.Error("a pointer to something else was put")
				case rec.Address() == g.group.record.Address():
					records++
				}
			}
		}
	}
	if pointers != 1 || records == 0 {
		t.Errorf("%d pointers and %d group records were put", pointers, records)
	}
}
