package index

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

const (
	wanderNodes = 500
	wanderDead  = 150 // of them, so that 30 % of everybody's entries are dead
	wanderView  = 250 // super nodes that each of them knows
)

// wanderNet is 500 super nodes over links of 50 to 70 ms, each of which knows
// half of the others. Nobody is connected with anybody beforehand: to reach a
// node costs three round trips. Half of the dead refuse, half say nothing.
type wanderNet struct {
	ids     []wire.NodeID
	index   map[wire.NodeID]int
	views   [][]wire.NodeID
	servers []*Server
	held    []*memHolder

	mu       sync.Mutex
	dead     map[wire.NodeID]bool // guarded by mu
	messages int                  // requests, and dials of the dead; guarded by mu
	hops     int                  // of the walk that found first, 0 if none did; guarded by mu
	requests [][]byte             // walking queries as sent, if kept; guarded by mu
	places   []int                // how many steps each of these had come; guarded by mu
	depth    map[wire.NodeID]int  // where the walk of now came to each; guarded by mu
	keep     bool
}

// memHolder holds records in memory.
type memHolder struct {
	mu   sync.Mutex
	recs map[[32]byte][]Record
}

func (h *memHolder) Answer(_ context.Context, req []byte) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if recs, err := parsePut(req); err == nil {
		for _, r := range recs {
			h.recs[r.Address()] = append(h.recs[r.Address()], r)
		}
		return encodeCopies(0, bytes.Repeat([]byte{1}, len(recs))), nil
	}
	g, err := parseGet(req)
	if err != nil {
		return nil, err
	}
	var a getAnswer
	for _, r := range h.recs[g.Addr] {
		if g.fits(r) {
			a.Records = append(a.Records, r)
		}
	}
	return a.encode(), nil
}

// memRouter is the network as one node sees it.
type memRouter struct {
	n    *wanderNet
	self int
}

func (r memRouter) Nearest(_ context.Context, key [32]byte, n int) ([]wire.NodeID, error) {
	return r.Known(key, n), nil
}

func (r memRouter) Known(key [32]byte, n int) []wire.NodeID {
	v := slices.Clone(r.n.views[r.self])
	slices.SortFunc(v, func(a, b wire.NodeID) int {
		for i := range key {
			if x, y := a[i]^key[i], b[i]^key[i]; x != y {
				return int(x) - int(y)
			}
		}
		return 0
	})
	return v[:min(n, len(v))]
}

// delay is how long a message to another node is on its way: never the same
// between two pairs, so that nothing happens at once and a run can be repeated.
func (r memRouter) delay(to wire.NodeID) time.Duration {
	h := sha256.Sum256(append(r.n.ids[r.self][:], to[:]...))
	return 50*time.Millisecond + time.Duration(binary.BigEndian.Uint32(h[:])%20_000_000)
}

func (r memRouter) lives(to wire.NodeID) bool {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	if r.n.dead[to] {
		r.n.messages++
		return false
	}
	return true
}

func (r memRouter) Reach(ctx context.Context, to wire.NodeID) error {
	switch {
	case r.n.ids[r.self] == to:
		return nil
	case r.lives(to):
		return sleep(ctx, 6*r.delay(to))
	case to[31]&1 == 0:
		return errors.Join(sleep(ctx, 2*r.delay(to)), errors.New("refused"))
	}
	<-ctx.Done()
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (r memRouter) Ask(ctx context.Context, to wire.NodeID, req []byte) ([]byte, error) {
	if !r.lives(to) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	r.n.mu.Lock()
	r.n.messages++
	if w, err := parseWalk(req); err == nil {
		at := r.n.depth[r.n.ids[r.self]] + 1 // 1: it comes from the far end
		if r.n.depth[to] == 0 {
			r.n.depth[to] = at
		}
		if r.n.held[r.n.index[to]].has(w.Get.Addr) && r.n.hops == 0 {
			r.n.hops = at
		}
		if r.n.keep {
			r.n.requests = append(r.n.requests, req)
			r.n.places = append(r.n.places, at)
		}
	}
	r.n.mu.Unlock()
	if err := sleep(ctx, r.delay(to)); err != nil {
		return nil, err
	}
	ans, err := r.n.servers[r.n.index[to]].Answer(ctx, r.n.ids[r.self], req)
	if err != nil {
		return nil, err
	}
	return ans, sleep(ctx, r.delay(to))
}

func (h *memHolder) has(addr [32]byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.recs[addr]) > 0
}

func newWanderNet(rng *rand.Rand) *wanderNet {
	n := &wanderNet{index: map[wire.NodeID]int{}, dead: map[wire.NodeID]bool{}, depth: map[wire.NodeID]int{}}
	for i := range wanderNodes {
		id := wire.NodeID(sha256.Sum256(binary.BigEndian.AppendUint64(nil, rng.Uint64())))
		n.ids = append(n.ids, id)
		n.index[id] = i
	}
	for i, id := range n.ids {
		view := make([]wire.NodeID, 0, wanderView)
		for _, j := range rng.Perm(wanderNodes)[:wanderView] {
			view = append(view, n.ids[j])
		}
		n.views = append(n.views, view)
		n.held = append(n.held, &memHolder{recs: map[[32]byte][]Record{}})
		s := NewServer(ServerConfig{Holder: n.held[i], Router: memRouter{n, i}, Self: id, Network: testNet})
		s.walker.coin = coinOf(i)
		n.servers = append(n.servers, s)
	}
	return n
}

func (n *wanderNet) far(i, walkers, query int) *farAsker {
	f := NewFar(FarConfig{Router: memRouter{n, i}, Network: testNet, Walkers: walkers})
	f.newWalk = func() walkID { // a query walks at most once a get
		h := sha256.Sum256(fmt.Append(nil, query, i, walkers))
		return walkID(h[:])
	}
	f.coin = coinOf(i)
	return &farAsker{f: f}
}

// coinOf is a node's coin, which falls alike in each run.
func coinOf(i int) func(walkID) bool {
	var mu sync.Mutex
	throws := map[walkID]int{}
	return func(id walkID) bool {
		mu.Lock()
		defer mu.Unlock()
		throws[id]++
		h := sha256.Sum256(fmt.Append(id[:], i, throws[id]))
		return h[0]%lastIn > 0
	}
}

// wanderResult is what a series of tries came to.
type wanderResult struct {
	tries, found   int
	hops, messages []int
	took           []time.Duration
}

func (w wanderResult) String() string {
	if w.tries == 0 {
		return "no try"
	}
	slices.Sort(w.hops)
	slices.Sort(w.messages)
	slices.Sort(w.took)
	at := func(n, p int) int { return max(0, (n*p+99)/100-1) }
	s := fmt.Sprintf("found %d of %d (%.1f %%)", w.found, w.tries, 100*float64(w.found)/float64(w.tries))
	if n := len(w.hops); n > 0 {
		s += fmt.Sprintf(", %d by walking: hops median %d p95 %d max %d", n, w.hops[at(n, 50)], w.hops[at(n, 95)], w.hops[n-1])
	}
	n := w.tries
	return s + fmt.Sprintf("; messages median %d p95 %d max %d; time median %v p95 %v max %v",
		w.messages[at(n, 50)], w.messages[at(n, 95)], w.messages[n-1],
		w.took[at(n, 50)].Round(time.Millisecond), w.took[at(n, 95)].Round(time.Millisecond), w.took[n-1].Round(time.Millisecond))
}

// wanderTries publishes while all live, lets 150 die, and searches from
// elsewhere. With only, all holders but one die too.
func wanderTries(t *testing.T, n *wanderNet, rng *rand.Rand, tries int, only bool, walkers ...int) []wanderResult {
	t.Helper()
	out := make([]wanderResult, len(walkers))
	for try := range tries {
		word := fmt.Sprintf("word%d%t", try, only)
		n.mu.Lock()
		n.dead = map[wire.NodeID]bool{}
		n.mu.Unlock()
		publish(t, n.far(rng.IntN(wanderNodes), 0, 0), item(word))
		addr := keysOf(word).addr
		dead := map[wire.NodeID]bool{}
		for _, i := range rng.Perm(wanderNodes)[:wanderDead] {
			dead[n.ids[i]] = true
		}
		var holders []wire.NodeID // that live
		for i, h := range n.held {
			if h.has(addr) && !dead[n.ids[i]] {
				holders = append(holders, n.ids[i])
			}
		}
		if len(holders) == 0 {
			continue
		}
		if only {
			keep := holders[rng.IntN(len(holders))]
			for _, h := range holders {
				dead[h] = h != keep
			}
		}
		reader := rng.IntN(wanderNodes)
		for dead[n.ids[reader]] {
			reader = rng.IntN(wanderNodes)
		}
		for i, k := range walkers {
			n.mu.Lock()
			n.dead, n.messages, n.hops, n.depth = dead, 0, 0, map[wire.NodeID]int{}
			n.mu.Unlock()
			q, _ := ParseQuery(word)
			began := time.Now()
			res, err := Search(t.Context(), testNet, n.far(reader, k, try), q)
			took := time.Since(began)
			synctest.Wait()
			r := &out[i]
			r.tries++
			if err == nil && len(res) == 1 && res[0].Name == word {
				r.found++
				if n.hops > 0 {
					r.hops = append(r.hops, n.hops)
				}
			}
			r.messages = append(r.messages, n.messages)
			r.took = append(r.took, took)
		}
	}
	return out
}

// TestWander: where the far end's own view does not lead to a record, walking
// queries do. Switched off, far fewer are found.
func TestWander(t *testing.T) {
	const tries = 500
	for _, c := range []struct {
		name string
		only bool
	}{{"30 % dead", false}, {"30 % dead, one holder lives", true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(2003, 4))
				n := newWanderNet(rng)
				got := wanderTries(t, n, rng, tries, c.only, 0, -1)
				on, off := got[0], got[1]
				t.Logf("walking:     %v", on)
				t.Logf("not walking: %v", off)
				if on.found*100 < on.tries*99 {
					t.Errorf("got %d of %d found, want 99 %%", on.found, on.tries)
				}
				if on.tries < tries*9/10 {
					t.Errorf("got %d tries that count, want most of %d", on.tries, tries)
				}
				if c.only && off.found*100 > off.tries*90 {
					t.Errorf("without walking %d of %d are found: the test shows nothing", off.found, off.tries)
				}
				if last := slices.Max(on.took); last >= 10*time.Second {
					t.Errorf("a search took %v, want less than a look-up's 10 s", last)
				}
				if most := slices.Max(on.messages); most > 8+4*(8*7+8) {
					t.Errorf("a search cost %d messages", most)
				}
			})
		})
	}
}
