package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"wanderfs/relay/wire"
)

// town is a set of candidates under a clock.
type town struct {
	now   time.Time
	cs    []Candidate
	index map[wire.NodeID]int
}

func nodeNumber(n int) wire.NodeID {
	var id wire.NodeID
	binary.BigEndian.PutUint64(id[:], uint64(n)+1)
	return id
}

// newTown has n super nodes that were met and are up, each in its own /16.
func newTown(n int) *town {
	t := &town{now: time.Unix(1.7e9, 0), index: make(map[wire.NodeID]int)}
	for i := range n {
		t.add(fmt.Sprintf("%d.%d.0.1:4001", 11+i/256, i%256))
	}
	return t
}

func (t *town) add(addrs ...string) *Candidate {
	c := Candidate{Node: nodeNumber(len(t.cs)), Super: true, Met: true, Up: true}
	for _, a := range addrs {
		c.Addrs = append(c.Addrs, netip.MustParseAddrPort(a))
	}
	t.index[c.Node] = len(t.cs)
	t.cs = append(t.cs, c)
	return &t.cs[len(t.cs)-1]
}

func (t *town) of(id wire.NodeID) *Candidate { return &t.cs[t.index[id]] }

func (t *town) field() *Field { return NewField(t.cs) }

func (t *town) config(seed uint64) ChoiceConfig {
	return ChoiceConfig{
		Seed:   func(b []byte) { binary.BigEndian.PutUint64(b, seed) },
		Now:    func() time.Time { return t.now },
		Settle: -1,
	}
}

func (t *town) chooser(tb testing.TB, seed uint64, state []byte) *Chooser {
	tb.Helper()
	c, err := NewChooser(t.config(seed), state)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// pass lets time go by, an hour at a time.
func (t *town) pass(c *Chooser, d time.Duration) {
	for ; d > 0; d -= time.Hour {
		t.now = t.now.Add(time.Hour)
		c.Watch(t.field(), time.Hour)
	}
}

func must(tb testing.TB, c *Chooser, f *Field, w Want) []wire.NodeID {
	tb.Helper()
	hops, err := c.Choose(f, w)
	if err != nil {
		tb.Fatal(err)
	}
	if len(hops) != w.Hops {
		tb.Fatalf("got %d hops, want %d: a path must not be shortened", len(hops), w.Hops)
	}
	return hops
}

// firsts gives the entries of many paths.
func firsts(tb testing.TB, t *town, c *Chooser) map[wire.NodeID]bool {
	tb.Helper()
	seen := make(map[wire.NodeID]bool)
	f := t.field()
	for range 50 {
		first := must(tb, c, f, Want{Hops: 3})[0]
		c.Reached(first)
		seen[first] = true
	}
	return seen
}

func TestChoiceLayers(t *testing.T) {
	tn := newTown(40)
	c := tn.chooser(t, 1, nil)
	f := tn.field()
	var layer [5]map[wire.NodeID]bool
	for i := range layer {
		layer[i] = make(map[wire.NodeID]bool)
	}
	for range 500 {
		hops := must(t, c, f, Want{Hops: 5})
		for i, id := range hops {
			layer[i][id] = true
		}
		sorted := slices.Clone(hops)
		slices.SortFunc(sorted, func(a, b wire.NodeID) int { return slices.Compare(a[:], b[:]) })
		if len(slices.Compact(sorted)) != 5 {
			t.Fatal("a relay comes twice on a path")
		}
	}
	if len(layer[0]) != 2 || len(layer[1]) != 4 {
		t.Errorf("got %d entries and %d second relays, want 2 and 4", len(layer[0]), len(layer[1]))
	}
	for i := 2; i < 5; i++ {
		if len(layer[i]) != 40-2-4 {
			t.Errorf("hop %d: got %d different relays, want all 34 that are not pinned", i, len(layer[i]))
		}
	}
	if got := len(c.Neighbours()); got != 8 {
		t.Errorf("got %d neighbours, want 8", got)
	}
	near := make(map[wire.NodeID]bool)
	for _, n := range c.Neighbours() {
		near[n.Node] = true
	}
	for id := range layer[0] {
		if !near[id] {
			t.Error("an entry is no neighbour")
		}
	}
	for id := range layer[1] {
		if near[id] {
			t.Error("a second relay is a neighbour: it may tell from whom the entry passes things on")
		}
	}
}

func TestChoiceNeverShortens(t *testing.T) {
	tn := newTown(4)
	c := tn.chooser(t, 1, nil)
	for n := 1; n <= 4; n++ {
		must(t, c, tn.field(), Want{Hops: n})
	}
	var few *FewRelaysError
	if _, err := c.Choose(tn.field(), Want{Hops: 5}); !errors.As(err, &few) || few.Error() != "needs 5 relays, knows 4" {
		t.Errorf("got %v", err)
	}
	for i := range tn.cs {
		tn.cs[i].Super = false
	}
	if _, err := c.Choose(tn.field(), Want{Hops: 3, Gateway: true}); !errors.As(err, &few) || few.Error() != "needs 1 super node, knows 0" {
		t.Errorf("got %v", err)
	}
}

// In the smallest network that has enough relays every kind of path works.
func TestChoiceInSmallNetworks(t *testing.T) {
	for size := 3; size <= 12; size++ {
		for seed := range uint64(20) {
			tn := &town{now: time.Unix(1.7e9, 0), index: make(map[wire.NodeID]int)}
			for i := range size {
				tn.add(fmt.Sprintf("127.0.0.1:%d", 1000+i))
			}
			c, f := tn.chooser(t, seed, nil), tn.field()
			must(t, c, f, Want{Hops: 3, Far: true})
			must(t, c, f, Want{Hops: 3, Gateway: true})
			if size < 4 {
				continue
			}
			for _, g := range tn.cs { // to any gateway
				must(t, c, f, Want{Hops: 3, Avoid: []Candidate{g}})
			}
			if size < 5 {
				continue
			}
			var gateways []Candidate
			for range 3 {
				hops := must(t, c, f, Want{Hops: 3, Gateway: true, Others: gateways})
				gateways = append(gateways, *tn.of(hops[2]))
			}
		}
	}
}

// Gateways stand in public records: what they are must not show who is pinned.
// So pinned relays are gateways as often as others, though they were measured
// best, and the path there leads through another entry.
func TestGatewaysShowNoPins(t *testing.T) {
	const n, draws = 30, 6000
	tn := newTown(n)
	c := tn.chooser(t, 7, nil)
	entries := firsts(t, tn, c)
	seconds := make(map[wire.NodeID]bool)
	for range 100 {
		seconds[must(t, c, tn.field(), Want{Hops: 3})[1]] = true
	}
	if len(entries) != 2 || len(seconds) != 4 {
		t.Fatalf("got %d entries and %d second relays", len(entries), len(seconds))
	}
	for i := range tn.cs {
		tn.cs[i].Rate = 1e6
		if id := tn.cs[i].Node; entries[id] || seconds[id] {
			tn.cs[i].Rate = 1e8
		}
	}
	f := tn.field()
	drawn := make(map[wire.NodeID]int)
	for range draws {
		hops := must(t, c, f, Want{Hops: 3, Gateway: true})
		if !tn.of(hops[2]).Super || !entries[hops[0]] || !seconds[hops[1]] {
			t.Fatal("the gateway is no super node, or the way there not pinned")
		}
		drawn[hops[2]]++
	}
	for _, r := range tn.cs {
		if got, want := drawn[r.Node], draws/n; got < want*3/4 || got > want*5/4 { // 14 apart is one standard deviation
			t.Errorf("a relay (entry %v, second %v) was the gateway %d times, want about %d", entries[r.Node], seconds[r.Node], got, want)
		}
	}
}

// Where only one entry is left, a gateway is not drawn that could not be
// reached through it.
func TestGatewayLeavesAnEntry(t *testing.T) {
	tn := newTown(30)
	for seed := range uint64(20) {
		c := tn.chooser(t, seed, nil)
		entries := firsts(t, tn, c)
		var down wire.NodeID
		for id := range entries {
			down = id
		}
		tn.of(down).Failed = true
		f := tn.field()
		for range 100 {
			if hops := must(t, c, f, Want{Hops: 3, Gateway: true}); hops[0] == down || entries[hops[2]] {
				t.Fatal("an entry that is down, or the only one that is up as the gateway")
			}
		}
		tn.of(down).Failed = false
	}
}

// Who runs the gateway cannot make a reader draw entries or second relays by
// where it lies.
func TestGatewayForcesNothing(t *testing.T) {
	tn := newTown(40)
	c := tn.chooser(t, 3, nil)
	f := tn.field()
	entries := firsts(t, tn, c)
	pins := c.Pins()
	var at []string
	for id := range entries {
		at = append(at, netip.AddrPortFrom(tn.of(id).Addrs[0].Addr().Next(), 9).String())
	}
	one := Candidate{Node: nodeNumber(1e6), Addrs: []netip.AddrPort{netip.MustParseAddrPort(at[0])}}
	both := Candidate{Node: nodeNumber(1e6), Addrs: []netip.AddrPort{netip.MustParseAddrPort(at[0]), netip.MustParseAddrPort(at[1])}}
	for range 50 {
		hops := must(t, c, f, Want{Hops: 3, Avoid: []Candidate{one}})
		if !entries[hops[0]] || near(f.get(hops[0]), []place{{Candidate: one, hoods: one.Hoods()}}) {
			t.Fatal("not the other entry")
		}
	}
	if _, err := c.Choose(f, Want{Hops: 3, Avoid: []Candidate{both}}); !errors.Is(err, ErrTooNear) {
		t.Errorf("got %v, want ErrTooNear", err)
	}
	for _, s := range tn.cs { // every relay once as the gateway
		_, _ = c.Choose(f, Want{Hops: 3, Avoid: []Candidate{s}})
	}
	if c.Pins() != pins {
		t.Error("something new was pinned")
	}
}

func TestNeighbourhoodsOnAPath(t *testing.T) {
	tn := newTown(0)
	for i := range 60 { // 12 prefixes of 5 relays, some of IPv6 too
		addrs := []string{fmt.Sprintf("10.%d.%d.1:1", i%12, i)}
		if i%3 == 0 {
			addrs = append(addrs, fmt.Sprintf("[fd0%d::%d]:1", i%4, i))
		}
		tn.add(addrs...)
	}
	f := tn.field()
	for seed := range uint64(10) {
		c := tn.chooser(t, seed, nil)
		for range 100 {
			seen := make(map[Hood]bool)
			for _, id := range must(t, c, f, Want{Hops: 4}) {
				for _, h := range tn.of(id).Hoods() {
					if seen[h] {
						t.Fatal("two relays of one neighbourhood")
					}
					seen[h] = true
				}
			}
		}
	}
}

func TestEntriesLast(t *testing.T) {
	tn := newTown(60)
	c := tn.chooser(t, 5, nil)
	begin := tn.now
	first := firsts(t, tn, c)
	var state []byte
	for tn.now.Sub(begin) < 59*day {
		tn.pass(c, day)
		state = c.State()
		c = tn.chooser(t, 6, state) // restarts each day
		for id := range firsts(t, tn, c) {
			if !first[id] {
				t.Fatalf("another entry after %v", tn.now.Sub(begin))
			}
		}
	}
	for tn.now.Sub(begin) < 130*day {
		tn.pass(c, day)
		firsts(t, tn, c)
	}
	for id := range firsts(t, tn, c) {
		if first[id] {
			t.Error("an entry is used for more than 120 days")
		}
	}
}

// Entries die one after the other. Four are used, then the node waits.
func TestFourEntriesAtMost(t *testing.T) {
	tn := newTown(60)
	c := tn.chooser(t, 7, nil)
	used := make(map[wire.NodeID]bool)
	for len(used) < 4 {
		before := len(used)
		for id := range firsts(t, tn, c) {
			used[id] = true
			tn.of(id).Dead = true
		}
		if len(used) == before {
			t.Fatalf("stays with %d entries", before)
		}
	}
	for range 80 { // days
		tn.pass(c, day)
		if _, err := c.Choose(tn.field(), Want{Hops: 3}); !errors.Is(err, ErrEntriesDown) {
			t.Fatalf("got %v, want ErrEntriesDown", err)
		}
		c = tn.chooser(t, 8, c.State()) // a restart changes nothing
	}
	for id := range used {
		tn.of(id).Dead = false
		break
	}
	for id := range firsts(t, tn, c) {
		if !used[id] {
			t.Error("a fifth entry is used")
		}
	}
	tn.pass(c, 92*day)
	for range 3 {
		for id := range firsts(t, tn, c) {
			used[id] = true
		}
	}
	if len(used) < 5 {
		t.Error("no entry is drawn after 90 days")
	}
}

// Entries that are dead or refuse when they are first tried know nothing, and
// others take their place at once.
func TestEntriesDrawnInVain(t *testing.T) {
	tn := newTown(60)
	c := tn.chooser(t, 7, nil)
	tried := make(map[wire.NodeID]bool)
	for len(tried) < 6 {
		first := must(t, c, tn.field(), Want{Hops: 3})[0]
		tried[first] = true
		tn.of(first).Failed = true
	}
	if got := len(firsts(t, tn, c)); got != 2 || len(c.entries) != 2 {
		t.Errorf("got %d entries of %d, want 2", got, len(c.entries))
	}
	for id := range firsts(t, tn, c) {
		tn.of(id).Failed = true
	}
	before := c.Pins()
	must(t, c, tn.field(), Want{Hops: 3})
	if c.Pins() != before {
		t.Error("entries that have worked are given up after one failure")
	}
}

// A second relay that nothing ever got past is replaced when it fails, one that
// was of use is not; and a lying entry cannot have more than four replaced in a
// day.
func TestSecondRelaysDrawnInVain(t *testing.T) {
	w := newTown(60)
	c := w.chooser(t, 1, nil)
	must(t, c, w.field(), Want{Hops: 3})
	good := c.second[0].Node
	c.Passed(good)
	fail := func() (replaced int) {
		old := make(map[wire.NodeID]bool)
		for _, s := range c.second {
			old[s.Node] = true
			w.of(s.Node).Failed = true
		}
		must(t, c, w.field(), Want{Hops: 3})
		for _, s := range c.second {
			if !old[s.Node] {
				replaced++
			}
		}
		if !c.isSecond(good) {
			t.Error("a second relay that was of use was replaced at once")
		}
		return replaced
	}
	for i, want := range []int{3, 1, 0} {
		if got := fail(); got != want {
			t.Errorf("round %d: %d second relays replaced, want %d", i, got, want)
		}
	}
	w.now = w.now.Add(day - time.Minute)
	if got, want := fail(), 0; got != want {
		t.Errorf("within a day: %d second relays replaced, want %d", got, want)
	}
}

// An entry that says of all second relays that they cannot be reached has no
// more of them drawn in a day than twice as many as there are, however often;
// the next day others are.
func TestSecondRelaysOnALiarsWord(t *testing.T) {
	w := newTown(120)
	c := w.chooser(t, 1, nil)
	must(t, c, w.field(), Want{Hops: 3})
	drawn := make(map[wire.NodeID]bool)
	lie := func() {
		for _, s := range c.second {
			drawn[s.Node] = true
			p := w.of(s.Node)
			p.Failed, p.Dead = true, true
		}
		w.now = w.now.Add(time.Minute)
		c.Choose(w.field(), Want{Hops: 3}) // may have to wait
	}
	for range 60 {
		lie()
	}
	if got, want := len(drawn), 4+2*4; got > want {
		t.Errorf("%d second relays drawn in an hour, want at most %d", got, want)
	}
	for id := range drawn {
		p := w.of(id)
		p.Failed, p.Dead = false, false
	}
	must(t, c, w.field(), Want{Hops: 3}) // those that are pinned will do again
	for id := range drawn {
		w.of(id).Dead = true
	}
	w.now = w.now.Add(day)
	must(t, c, w.field(), Want{Hops: 3})
}

// Where all pinned entries fall silent at once, paths go on through a further
// one; where one of them still answers, they do not.
func TestSilentEntriesAreStoodInFor(t *testing.T) {
	tn := newTown(60)
	c := tn.chooser(t, 9, nil)
	entries := firsts(t, tn, c)
	if len(entries) != 2 {
		t.Fatalf("%d entries, want 2", len(entries))
	}
	left := len(entries)
	for id := range entries {
		c.Reached(id)
		tn.of(id).Failed, tn.of(id).Silent = true, true
		left--
		strangers := 0
		for id := range firsts(t, tn, c) {
			if !entries[id] {
				strangers++
			}
		}
		if left > 0 && strangers > 0 {
			t.Error("another entry was drawn while one still answers")
		}
		if left == 0 && strangers != 1 {
			t.Errorf("%d further entries were drawn, want 1", strangers)
		}
	}
}

// Where all pinned second relays fall silent at once, one is replaced; where one
// of them still answers, or too many were replaced in a day, none is.
func TestSilentSecondRelaysAreStoodInFor(t *testing.T) {
	tn := newTown(60)
	c := tn.chooser(t, 9, nil)
	must(t, c, tn.field(), Want{Hops: 3})
	strangers := func(old []*pin) (n int) {
		must(t, c, tn.field(), Want{Hops: 3})
		for _, s := range c.second {
			if !slices.Contains(old, s) {
				n++
			}
		}
		return n
	}
	for round := range 3 * c.cfg.Second {
		old := slices.Clone(c.second)
		want := 1
		if round >= 2*c.cfg.Second {
			want = 0
		}
		for i, s := range old {
			c.Passed(s.Node)
			tn.of(s.Node).Failed, tn.of(s.Node).Silent = true, true
			if i < len(old)-1 && round == 0 && strangers(old) > 0 {
				t.Error("another second relay was drawn while one still answers")
			}
		}
		if got := strangers(old); got != want {
			t.Errorf("round %d: %d further second relays were drawn, want %d", round, got, want)
		}
	}
}

// A node that comes back after weeks waits for its entries for a while before
// it draws others.
func TestEntriesAreWaitedFor(t *testing.T) {
	tn := newTown(60)
	c := tn.chooser(t, 9, nil)
	entries := firsts(t, tn, c)
	all := tn.cs
	tn.cs = slices.DeleteFunc(slices.Clone(all), func(c Candidate) bool { return entries[c.Node] })
	c = tn.chooser(t, 10, c.State())
	if _, err := c.Choose(tn.field(), Want{Hops: 3}); !errors.Is(err, ErrEntriesDown) {
		t.Errorf("got %v, want ErrEntriesDown", err)
	}
	if n := len(c.Neighbours()); n != 8 {
		t.Errorf("%d neighbours to be dialled, want 8", n)
	}
	c.Watch(tn.field(), 2*time.Minute)
	if _, err := c.Choose(tn.field(), Want{Hops: 3}); err != nil {
		t.Errorf("got %v: they are known to be lost by now", err)
	}
}

func TestProvenEntriesReplaceFlakyOnes(t *testing.T) {
	tn := newTown(60)
	c := tn.chooser(t, 11, nil)
	flaky := firsts(t, tn, c)
	for h := range 48 { // up for a quarter of the time
		for id := range flaky {
			tn.of(id).Up = h%4 == 0
		}
		tn.pass(c, time.Hour)
	}
	after := firsts(t, tn, c)
	if len(after) != 2 {
		t.Errorf("got %d entries, want 2", len(after))
	}
	for id := range after {
		if flaky[id] {
			t.Error("an entry of a quarter's uptime is preferred")
		}
		if !c.proven(c.record(id)) {
			t.Error("an entry without proven uptime replaces another")
		}
	}
}

func TestSettle(t *testing.T) {
	tn := newTown(5)
	cfg := tn.config(1)
	cfg.Settle = 2 * time.Second
	c, _ := NewChooser(cfg, nil)
	if _, err := c.Choose(tn.field(), Want{Hops: 3}); !errors.Is(err, ErrSettling) {
		t.Errorf("got %v, want ErrSettling", err)
	}
	tn.now = tn.now.Add(2 * time.Second)
	must(t, c, tn.field(), Want{Hops: 3})
	c, _ = NewChooser(cfg, nil)
	must(t, c, newTown(8).field(), Want{Hops: 3}) // enough are known
}

func TestSecondLayerLives(t *testing.T) {
	tn := newTown(200)
	c := tn.chooser(t, 12, nil)
	must(t, c, tn.field(), Want{Hops: 3})
	var sum time.Duration
	n := 0
	seen := make(map[*pin]bool)
	for range 400 {
		for _, s := range c.second {
			if !seen[s] {
				seen[s] = true
				life := s.Until.Sub(s.Since)
				if life < day || life > 12*day {
					t.Fatalf("a second relay is pinned for %v", life)
				}
				sum += life
				n++
			}
		}
		tn.pass(c, 12*time.Hour)
	}
	if mean := sum / time.Duration(n); mean < 7*day || mean > 10*day {
		t.Errorf("mean life %v of %d, want about 8.3 days", mean, n)
	}
}

func TestSybilWeighsOne(t *testing.T) {
	tn := newTown(100)
	const bad = 1000
	for i := range bad {
		c := tn.add(fmt.Sprintf("200.1.%d.%d:1", i/250, 1+i%250))
		c.Rate = 1e9 // and is fast
	}
	for i := range 100 {
		tn.cs[i].Rate = 1e6
	}
	f := tn.field()
	r := rand.New(rand.NewPCG(1, 2))
	hits, draws := 0, 20000
	for range draws {
		if tn.index[f.pick(r, func(*place) bool { return true }).Node] >= 100 {
			hits++
		}
	}
	got := float64(hits) / float64(draws)
	if most := maxWeight / (maxWeight + 100.0); got > 1.2*most {
		t.Errorf("1000 fast NodeIDs in one /16 of 101 get %.4f of the choices, want at most %.4f", got, most)
	}
}

func TestSameSeedSameChoice(t *testing.T) {
	tn := newTown(50)
	a, b := tn.chooser(t, 1, nil), tn.chooser(t, 1, nil)
	for range 50 {
		if !slices.Equal(must(t, a, tn.field(), Want{Hops: 4}), must(t, b, tn.field(), Want{Hops: 4})) {
			t.Fatal("the same seed gives another path")
		}
	}
}
