package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/index"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// watchedNet starts relays whose far ends all log to one log.
func watchedNet(t *testing.T, relays int) (boot []string, l *farLog) {
	t.Helper()
	l = &farLog{}
	setup := func(c *Config) { c.far = l.watch }
	first := labNode(t, nil, setup)
	boot = first.Status().Addrs
	for range relays - 1 {
		labNode(t, boot, setup)
	}
	return boot, l
}

func sharedGroups(n *Node) (out []*shareGroup) {
	n.publish.mu.Lock()
	defer n.publish.mu.Unlock()
	for _, g := range n.publish.groups {
		out = append(out, g)
	}
	return out
}

// groupsOf tells to which of n's groups the pointer at an address belongs.
func groupsOf(t *testing.T, n *Node) func([32]byte) int {
	t.Helper()
	groups := make(map[[32]byte]int)
	n.publish.mu.Lock()
	defer n.publish.mu.Unlock()
	for _, it := range n.Share().Items() {
		if g := n.publish.groups[it.Group]; g != nil {
			r, err := g.record.Pointer(it.Entry.Ref, time.Now().Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			groups[r.Address()] = it.Group
		}
	}
	return func(addr [32]byte) int { return groups[addr] }
}

// A publisher shares an album and single files, a reader searches and reads:
// no far end sees two things of one node together.
func TestIsolation(t *testing.T) {
	if testing.Short() {
		t.Skip("takes many seconds")
	}
	t.Parallel()
	boot, l := watchedNet(t, 8)
	hidden := func(c *Config) { c.Reachability = Private }
	pub, reader := labNode(t, boot, hidden), labNode(t, boot, hidden)
	dir := pub.Share().Dir()
	if err := os.Mkdir(filepath.Join(dir, "album"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		name := filepath.Join(dir, "album", fmt.Sprintf("quiet picture %03d.raw", i))
		if err := os.WriteFile(name, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{"red apple.bin", "green pear.bin", "blue plum.bin"}
	content := make(map[string][]byte)
	for i, name := range names {
		content[name] = bytes.Repeat([]byte{byte(i + 1)}, 3<<20+i)
		if err := os.WriteFile(filepath.Join(dir, name), content[name], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refs := make(map[string]chunk.Ref)
	for _, name := range append(names, "album") {
		eventually(t, 5*time.Minute, "all to be published", func() bool { return pub.Share().State(name).Phase == "published" })
		refs[name] = pub.Share().State(name).Ref
	}
	groups := sharedGroups(pub)
	if len(groups) < 3 || len(groups) > 8 {
		t.Errorf("%d groups of shares", len(groups))
	}
	numbers := make(map[string]bool)
	for _, s := range pub.Status().Sessions {
		numbers[s.Number] = true
	}
	if len(numbers) != len(groups) {
		t.Errorf("%d sessions for %d groups", len(numbers), len(groups))
	}

	// Three queries and two reading tasks at once.
	var wg sync.WaitGroup
	for _, query := range []string{"apple", "pear green", "picture quiet"} {
		wg.Go(func() {
			eventually(t, 5*time.Minute, "the query to find something", func() bool {
				r, err := reader.Search(t.Context(), query)
				if err != nil {
					t.Error(err)
					return true
				}
				defer r.Close()
				return len(r.List()) > 0
			})
		})
	}
	for _, name := range names[:2] {
		wg.Go(func() {
			got, err := readAll(t.Context(), reader, refs[name])
			if err != nil || !bytes.Equal(got, content[name]) {
				t.Errorf("got %d bytes and %v", len(got), err)
			}
		})
	}
	wg.Wait()
	checkTasks(t, reader, 2)
	for _, broken := range violations(l, groupsOf(t, pub)) {
		t.Error(broken)
	}
	if !l.overWithin(30 * time.Second) {
		t.Error("a path that was asked something lives on, and may serve for more")
	}
	checkKeys(t, l, pub)
	if t.Failed() {
		return
	}
	breakRules(t, l, reader)
}

// checkTasks holds the reader's sessions against its tasks: one each, with a
// number of its own, and each path with one of them.
func checkTasks(t *testing.T, reader *Node, tasks int) {
	t.Helper()
	r := reader.reads
	r.mu.Lock()
	defer r.mu.Unlock()
	numbers := make(map[wire.SessionNumber]bool)
	owned := make(map[*ownPath]int)
	for _, s := range r.tasks {
		numbers[s.number] = true
		if len(s.open) > maxReadPaths || len(s.open) == 0 {
			t.Errorf("a session with %d paths", len(s.open))
		}
		for p := range s.open {
			owned[p]++
		}
	}
	if len(r.tasks) != tasks || len(numbers) != tasks {
		t.Errorf("%d tasks, %d session numbers, want %d", len(r.tasks), len(numbers), tasks)
	}
	reader.paths.mu.Lock()
	defer reader.paths.mu.Unlock()
	for p := range reader.paths.live {
		if p.purpose == purposeRead && owned[p] != 1 && p.Err() == nil {
			t.Errorf("a reading path belongs to %d sessions", owned[p])
		}
	}
}

// checkKeys proves that no key of one kind signs, or shows, a key of another:
// NodeIDs, sessions, batch keys and groups.
func checkKeys(t *testing.T, l *farLog, pub *Node) {
	t.Helper()
	secret := map[string][][]byte{"node": {pub.mesh.t.id[:]}}
	groups := sharedGroups(pub)
	for _, g := range groups {
		g.mu.Lock()
		s := g.current
		g.mu.Unlock()
		k := s.keys.Keys()
		secret["session"] = append(secret["session"], k.Sign[:], k.Key[:], s.number[:], s.join[:])
	}
	signers := make(map[[32]byte]index.RecordKind)
	for _, reqs := range l.byCircuit() {
		for _, req := range reqs {
			for what, keys := range secret {
				for _, k := range keys {
					if bytes.Contains(req, k) {
						t.Errorf("a request shows a key of a %s", what)
					}
				}
			}
			for _, r := range putRecords(req) {
				key := signerOf(r)
				if k, ok := signers[key]; ok && k != r.Kind() {
					t.Error("one key signs records of two kinds")
				}
				signers[key] = r.Kind()
			}
		}
	}
	kinds := make(map[index.RecordKind]int)
	for key, kind := range signers {
		kinds[kind]++
		for _, keys := range secret {
			for _, k := range keys {
				if bytes.Equal(k, key[:]) {
					t.Error("a record is signed by a node's or a session's key")
				}
			}
		}
	}
	if kinds[index.Posting] < 3 || kinds[index.Pointer] < 30 || kinds[index.GroupInfo] != len(groups) {
		t.Errorf("%d batch keys, %d pointer keys, %d group keys: the log does not hold all", kinds[index.Posting], kinds[index.Pointer], kinds[index.GroupInfo])
	}
}

// breakRules does what is forbidden, over real paths to the same far ends: the
// checks must tell.
func breakRules(t *testing.T, l *farLog, n *Node) {
	take := func() *ownPath {
		p, err := n.lookups.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	query := func(p *ownPath, words string) {
		q, err := index.ParseQuery(words)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := index.Search(t.Context(), n.mesh.t.network, p, q); err != nil {
			t.Fatal(err)
		}
	}
	batch := func() []index.Record {
		b, err := index.NewBatch(n.mesh.t.network)
		if err != nil {
			t.Fatal(err)
		}
		recs, err := b.Postings(index.Item{Name: "two words", Ref: chunk.Raw([]byte("z"))}, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return recs
	}
	put := func(p *ownPath, recs []index.Record) {
		if err := index.Put(t.Context(), p, recs); err != nil {
			t.Fatal(err)
		}
	}
	find := func(p *ownPath, s string) {
		if _, err := index.Find(t.Context(), n.mesh.t.network, p, chunk.Raw([]byte(s))); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		want string
		do   func(p *ownPath)
	}{
		{"2 of query share a path", func(p *ownPath) { query(p, "apple"); query(p, "pear") }},
		{"2 of query share a path", func(p *ownPath) { query(p, "apple"); query(p, "apple red") }},
		{"2 of look-up share a path", func(p *ownPath) { find(p, "a"); find(p, "b") }},
		{"a path is used for 2 purposes", func(p *ownPath) { query(p, "apple"); find(p, "b") }},
		{"2 of batch share a path", func(p *ownPath) { put(p, batch()); put(p, batch()) }},
		{"a query and a publication share a path", func(p *ownPath) { query(p, "apple"); put(p, batch()) }},
		{"a batch goes over 2 paths", func(p *ownPath) {
			recs := batch()
			put(p, recs[:1])
			o := take()
			defer o.Close()
			put(o, recs[1:])
		}},
	} {
		l.forget()
		p := take()
		x.do(p)
		if got := violations(l, noGroup); !has(got, x.want) {
			t.Errorf("got %q, want %q", got, x.want)
		}
		if l.overWithin(10 * time.Millisecond) {
			t.Error("a path that lives is said to be over")
		}
		p.Close()
	}
}

// Who takes a fifth path of one session waits; the session's end ends them
// all.
func TestReadSessionHasFourPaths(t *testing.T) {
	t.Parallel()
	boot := labNet(t, 6)
	n := labNode(t, boot, nil)
	root := chunk.Raw([]byte("root"))
	eventually(t, patience, "a path", func() bool { return n.Status().Ready })
	build := func(ctx context.Context) (*legPath, error) {
		l := n.reads.legs.of(root)
		p, err := n.paths.build(ctx, purposeRead, func() ([]wire.Descriptor, error) { return n.mesh.chooser.lookup(2) })
		if err != nil {
			return nil, err
		}
		return &legPath{ownPath: p, legs: l, row: &leg{hops: p.hops, users: 1, broken: -1}}, nil
	}
	var open []*legPath
	var own *readSession
	for range maxReadPaths {
		p, s, err := n.reads.path(t.Context(), root, build)
		if err != nil {
			t.Fatal(err)
		}
		if own != nil && s != own {
			t.Error("one task has two sessions")
		}
		own = s
		open = append(open, p)
	}
	other, s, err := n.reads.path(t.Context(), chunk.Raw([]byte("other")), build)
	if err != nil {
		t.Fatal(err)
	}
	if s == own || s.number == own.number {
		t.Error("two tasks have one session")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	if _, _, err := n.reads.path(ctx, root, build); err == nil {
		t.Error("a session has five paths")
	}
	cancel()
	open[0].Close()
	if _, s, err := n.reads.path(t.Context(), root, build); err != nil || s != own {
		t.Errorf("after one has gone: %v", err)
	}
	own.cancel() // its end
	for _, p := range open {
		<-p.Done()
	}
	if errors.Is(other.Err(), relay.ErrClosed) { // by itself it may fall, on a slow machine
		t.Error("a path ended with a session that is not its own")
	}
	p, s, err := n.reads.path(t.Context(), root, build)
	if err != nil || s == own || s.number == own.number {
		t.Errorf("no new session after the end of the old one: %v", err)
	}
	if err == nil {
		p.Close()
	}
	other.Close()
}
