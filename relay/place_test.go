package relay_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
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
// numbers, order and repeated bytes, and lets a classifier guess from the bytes.
// Of all circuits together it compares the bytes, place by place.

// Kinds of frames that a relay sees, by link and direction.
const (
	setupIn = iota
	setupOut
	takenIn
	takenOut
	replyIn
	replyOut
	forwardIn
	forwardOut
	backwardIn
	backwardOut
	kinds
)

// regions are the parts of a frame that are looked at: where heads, filler and
// padding begin and end, if anything does.
var regions = [][2]int{
	{1, 17}, {17, 33}, {1105, 1137}, {1137, 1153}, {2590, 2606}, {8000, 8064},
	{wire.FrameSize - 2589 - 16, wire.FrameSize - 2589}, {wire.FrameSize - 2589, wire.FrameSize - 2573},
	{wire.FrameSize - 112, wire.FrameSize - 96}, {wire.FrameSize - 96, wire.FrameSize - 80}, {wire.FrameSize - 80, wire.FrameSize - 64},
	{wire.FrameSize - 64, wire.FrameSize - 48}, {wire.FrameSize - 48, wire.FrameSize - 32}, {wire.FrameSize - 32, wire.FrameSize - 16}, {wire.FrameSize - 16, wire.FrameSize},
}

// seenFrame is one frame on one of a relay's links.
type seenFrame struct {
	from, to wire.NodeID
	b        []byte
}

// sight is what a relay sees of one circuit.
type sight struct {
	k, n   int
	order  string // of what arrives: f from before, b from behind
	frames [kinds][][]byte
}

// look takes one relay's part out of all that was recorded of a circuit.
func look(all []seenFrame, k int, path []wire.NodeID) sight {
	me, prev, next := path[k], path[k-1], path[k+1]
	s := sight{k: k, n: len(path) - 1}
	var order strings.Builder
	var count [4]int
	for _, f := range all {
		var kind, i int
		switch {
		case f.from == prev && f.to == me:
			order.WriteByte('f')
			kind, i = forwardIn, 0
			if count[0] == 0 {
				kind = setupIn
			}
		case f.from == me && f.to == next:
			kind, i = forwardOut, 1
			if count[1] == 0 {
				kind = setupOut
			}
		case f.from == next && f.to == me:
			order.WriteByte('b')
			kind, i = backwardIn, 2
			if count[2] < 2 {
				kind = takenIn + 2*count[2]
			}
		case f.from == me && f.to == prev:
			kind, i = backwardOut, 3
			if count[3] < 2 {
				kind = takenOut + 2*count[3]
			}
		default:
			continue
		}
		count[i]++
		s.frames[kind] = append(s.frames[kind], f.b)
	}
	s.order = order.String()
	return s
}

// discrete is what needs no statistics: sizes, numbers, order, and whether any
// 16 bytes come twice, or are all the same byte.
func (s sight) discrete() string {
	sizes := map[int]bool{}
	blocks := map[[16]byte]int{}
	odd := 0
	for _, fs := range s.frames {
		for _, f := range fs {
			sizes[len(f)] = true
			for i := len(f) % 16; i < len(f); i += 16 {
				b := [16]byte(f[i:])
				blocks[b]++
				if blocks[b] == 2 || bytes.Count(b[:], b[:1]) == 16 {
					odd++
				}
			}
		}
	}
	return fmt.Sprintf("%s %v odd %d", s.order, sizes, odd)
}

// features are the mean bytes of all regions, in single circuits.
func (s sight) features() []float64 {
	var v []float64
	for _, fs := range s.frames {
		for _, r := range regions {
			sum, n := 0, 0
			for _, f := range fs {
				for _, x := range f[r[0]:r[1]] {
					sum += int(x)
					n++
				}
			}
			v = append(v, float64(sum)/float64(max(1, n)))
		}
	}
	return v
}

// tables counts the bytes of regions: upper and lower six bits of each.
type tables [kinds][16][2][64]float64

func (t *tables) add(s sight) {
	for kind, fs := range s.frames {
		for i, r := range regions {
			for _, f := range fs {
				for _, x := range f[r[0]:r[1]] {
					t[kind][i][0][x>>2]++
					t[kind][i][1][x&63]++
				}
			}
		}
	}
}

// differ gives how many standard deviations the most striking table is from
// what it would be if all groups had the same distribution (chi-square, normal
// approximation), and which it is.
func differ(groups []*tables) (worst float64, where string) {
	for kind := range kinds {
		for i := range regions {
			for half := range 2 {
				var rows [][64]float64
				var col [64]float64
				var total float64
				for _, g := range groups {
					row := g[kind][i][half]
					rows = append(rows, row)
					for j, x := range row {
						col[j] += x
						total += x
					}
				}
				chi, df := 0.0, -1.0
				for j := range col {
					if col[j] > 0 {
						df++
					}
				}
				df *= float64(len(rows) - 1)
				for _, row := range rows {
					sum := 0.0
					for _, x := range row {
						sum += x
					}
					for j, x := range row {
						if e := sum * col[j] / total; e > 0 {
							chi += (x - e) * (x - e) / e
						}
					}
				}
				if df <= 0 {
					continue
				}
				if z := (chi - df) / math.Sqrt(2*df); z > worst {
					worst, where = z, fmt.Sprintf("kind %d, bytes %d to %d", kind, regions[i][0], regions[i][1])
				}
			}
		}
	}
	return worst, where
}

// adversary gathers what it needs to judge.
type adversary struct {
	byPlace  [wire.MaxHops]*tables // index k
	origin   [2]*tables            // 1: the neighbour before is the builder
	last     [2]*tables            // 1: the one behind is the far end
	discrete map[string]map[int]int
	x        [][]float64 // of the longest paths
	y        []int
}

func newAdversary() *adversary {
	a := &adversary{discrete: map[string]map[int]int{}}
	for i := range a.byPlace {
		a.byPlace[i] = &tables{}
	}
	for i := range 2 {
		a.origin[i], a.last[i] = &tables{}, &tables{}
	}
	return a
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (a *adversary) add(s sight) {
	a.byPlace[s.k].add(s)
	a.origin[bit(s.k == 1)].add(s)
	a.last[bit(s.k == s.n-1)].add(s)
	if s.n == wire.MaxHops {
		a.x, a.y = append(a.x, s.features()), append(a.y, s.k)
		d := s.discrete()
		if a.discrete[d] == nil {
			a.discrete[d] = map[int]int{}
		}
		a.discrete[d][s.k]++
	}
}

// Both bounds are passed by chance less than once in a million runs.
const (
	maxDeviation = 8.0 // of a table, in standard deviations
	maxGuess     = 6.0 // of the classifier's right guesses
)

// judge tells what gives places away; nothing is empty.
func (a *adversary) judge(t *testing.T) (found []string) {
	t.Helper()
	for d, places := range a.discrete {
		for k := 1; k < wire.MaxHops; k++ {
			if places[k] != places[1] { // each circuit was seen from all places
				found = append(found, fmt.Sprintf("%d of %d circuits look at place %d as at place 1: %.60s", places[k], places[1], k, d))
				break
			}
		}
	}
	for name, groups := range map[string][]*tables{"place": a.byPlace[1:], "neighbour is the builder": a.origin[:], "next is the far end": a.last[:]} {
		z, where := differ(groups)
		t.Logf("%s: most striking of all tables %.1f standard deviations", name, z)
		if z > maxDeviation {
			found = append(found, fmt.Sprintf("%s shows in %s: %.0f standard deviations", name, where, z))
		}
	}
	right, of := guess(a.x, a.y)
	p := 1.0 / (wire.MaxHops - 1)
	z := (float64(right) - p*float64(of)) / math.Sqrt(p*(1-p)*float64(of))
	t.Logf("classifier: %d of %d places guessed, by chance it would be %.0f: %.1f standard deviations", right, of, p*float64(of), z)
	if z > maxGuess {
		found = append(found, fmt.Sprintf("a classifier guesses %d of %d places", right, of))
	}
	return found
}

// guess learns from one half of the circuits the mean and spread of all
// features at each place, and guesses the places of the other half.
func guess(x [][]float64, y []int) (right, of int) {
	half := len(x) / 2
	var mean, dev [wire.MaxHops][]float64
	var n [wire.MaxHops]float64
	for i := range half {
		k := y[i]
		if mean[k] == nil {
			mean[k], dev[k] = make([]float64, len(x[i])), make([]float64, len(x[i]))
		}
		n[k]++
		for j, v := range x[i] {
			mean[k][j] += v
			dev[k][j] += v * v
		}
	}
	for k := range mean {
		for j := range mean[k] {
			mean[k][j] /= n[k]
			dev[k][j] = math.Sqrt(max(0.01, dev[k][j]/n[k]-mean[k][j]*mean[k][j]))
		}
	}
	for i := half; i < len(x); i++ {
		best, least := 0, math.Inf(1)
		for k := range mean {
			if mean[k] == nil {
				continue
			}
			d := 0.0
			for j, v := range x[i] {
				u := (v - mean[k][j]) / dev[k][j]
				d += u*u/2 + math.Log(dev[k][j])
			}
			if d < least {
				best, least = k, d
			}
		}
		of++
		if best == y[i] {
			right++
		}
	}
	return right, of
}

// watch builds circuits, all through the same entry, lets something travel on
// each, and gives what relays see to two adversaries; the second one sees
// set-ups as they were without filler.
func watch(t *testing.T, circuits int, plain bool) (seen, stripped *adversary) {
	t.Helper()
	var mu sync.Mutex
	var all []seenFrame
	cfg := relaytest.Config{
		Limits: relay.Limits{Creates: 1e6, PerTarget: 1e6, Queries: 1e6},
		Far:    func(int) relay.Far { return sized{} },
		Tamper: func(from, to wire.NodeID, b []byte) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, seenFrame{from, to, bytes.Clone(b)})
		},
	}
	if plain {
		cfg.Adjust = func(c *relay.Config) { relay.WithoutFiller(c, nil) }
	}
	n := newNet(t, cfg)
	builder := wire.NodeID{1}
	b := &relay.Builder{Network: n.Network(builder), NetworkName: relaytest.Name, Quiet: 1 << 40, KeepAlive: 1 << 40}
	if plain {
		relay.WithoutFiller(nil, b)
	}
	seen, stripped = newAdversary(), newAdversary()
	rng := mrand.New(mrand.NewPCG(1, 2))
	for i := range circuits {
		hops := n.Hops(0, 1, 2, 3, 4, 5)
		if i%5 < 2 {
			hops = hops[:2+rng.IntN(4)]
		}
		p, err := b.Build(context.Background(), hops)
		if err != nil {
			t.Fatal(err)
		}
		for range 1 + rng.IntN(2) {
			req := make([]byte, 2+rng.IntN(2*wire.MaxData))
			req[0] = byte(rng.IntN(3)) // how many cells come back
			if _, err := p.Ask(context.Background(), req); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		got := all
		all = nil
		mu.Unlock()
		p.Close()
		path := []wire.NodeID{builder}
		for _, d := range hops {
			path = append(path, d.Node)
		}
		for k := 1; k < len(hops); k++ {
			s := look(got, k, path)
			seen.add(s)
			if k > 1 {
				s.frames[setupIn] = strip(s.frames[setupIn])
			}
			s.frames[setupOut] = strip(s.frames[setupOut])
			stripped.add(s)
		}
	}
	return seen, stripped
}

// strip puts zeros where a relay appends what it has computed.
func strip(fs [][]byte) (out [][]byte) {
	for _, f := range fs {
		g := bytes.Clone(f)
		clear(g[wire.FrameSize-2589:])
		out = append(out, g)
	}
	return out
}

// sized answers with as many cells as the first byte says, and one.
type sized struct{}

func (sized) Answer(_ context.Context, req []byte) ([]byte, error) {
	return make([]byte, 10+wire.MaxData*int(req[0])), nil
}

// TestPlace: no relay learns its place from sizes, numbers, order and bytes of
// what it sees, of one circuit or of 500 through the same entry; it would
// without filler, in layers or in set-ups.
func TestPlace(t *testing.T) {
	circuits := 500
	if testing.Short() {
		circuits = 100
	}
	seen, stripped := watch(t, circuits, false)
	for _, f := range seen.judge(t) {
		t.Error(f)
	}
	if found := stripped.judge(t); len(found) == 0 {
		t.Error("without filler in set-ups nothing was found: the adversary is too weak")
	} else {
		t.Log("without filler in set-ups:", found[0])
	}
	plain, _ := watch(t, 60, true)
	if found := plain.judge(t); len(found) == 0 {
		t.Error("without filler in layers nothing was found: the adversary is too weak")
	} else {
		t.Log("without filler in layers:", found[0])
	}
}

// TestPlaceOnWay looks at a whole way, reader and publisher with a stream
// between them: r1 r2 r3 G p2 p1. The gateway knows that it is one. The others
// see bytes without a difference; sizes, numbers and order tell the half of
// the way that a relay is in, as the direction of volume does, but not the
// place in it. SPEC.md §1.2
func TestPlaceOnWay(t *testing.T) {
	ways := 60
	if testing.Short() {
		ways = 15
	}
	var mu sync.Mutex
	var all []seenFrame
	n := newNet(t, relaytest.Config{
		Limits: relay.Limits{Creates: 1e6, PerTarget: 1e6, Opens: 1e6},
		Tamper: func(from, to wire.NodeID, b []byte) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, seenFrame{from, to, bytes.Clone(b)})
		},
	})
	hops := n.Hops(0, 1, 2, 3, 4, 5) // r1 r2 r3 G p2 p1
	reader, publisher := wire.NodeID{1}, wire.NodeID{2}
	read := []wire.NodeID{reader, hops[0].Node, hops[1].Node, hops[2].Node, hops[3].Node}
	pub := []wire.NodeID{publisher, hops[5].Node, hops[4].Node, hops[3].Node}
	builder := func(id wire.NodeID) *relay.Builder {
		return &relay.Builder{Network: n.Network(id), NetworkName: relaytest.Name, Quiet: 1 << 40, KeepAlive: 1 << 40}
	}
	var groups [5]*tables
	for i := range groups {
		groups[i] = &tables{}
	}
	var x [][]float64
	var y []int
	rng := mrand.New(mrand.NewPCG(3, 4))
	ctx := testContext(t)
	for i := range ways {
		w := &way{}
		var err error
		if w.s, err = relay.NewSession(); err != nil {
			t.Fatal(err)
		}
		if w.pub, err = builder(publisher).Build(ctx, n.Hops(5, 4, 3)); err != nil {
			t.Fatal(err)
		}
		if w.listen, err = w.pub.Listen(ctx, w.s, w.join); err != nil {
			t.Fatal(err)
		}
		if w.read, err = builder(reader).Build(ctx, n.Hops(0, 1, 2, 3)); err != nil {
			t.Fatal(err)
		}
		r, p := w.meet(t, []byte("first"))
		for range 1 + rng.IntN(3) {
			for _, c := range [][2]*relay.Conn{{r, p}, {p, r}} {
				b := make([]byte, 1+rng.IntN(3*wire.RecordSize))
				if _, err := c[0].Write(b); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c[1], b); err != nil {
					t.Fatal(err)
				}
			}
		}
		mu.Lock()
		got := all
		all = nil
		mu.Unlock()
		w.read.Close()
		w.pub.Close()
		for k := range 6 { // what is on its way belongs to this way
			for n.Relay(k).Stats().Circuits > 0 {
				time.Sleep(time.Millisecond)
			}
		}
		mu.Lock()
		all = nil
		mu.Unlock()
		var seen [5]string
		for place, at := range []struct {
			path []wire.NodeID
			k    int
		}{{read, 1}, {read, 2}, {read, 3}, {pub, 2}, {pub, 1}} {
			s := look(got, at.k, at.path)
			seen[place] = s.discrete()
			groups[place].add(s)
			x, y = append(x, s.features()), append(y, place+1)
		}
		if seen[0] != seen[1] || seen[1] != seen[2] || seen[3] != seen[4] {
			t.Errorf("way %d: relays of one half see different things: %q", i, seen)
		}
	}
	z, where := differ(groups[:])
	right, of := guess(x, y)
	dev := (float64(right) - 0.2*float64(of)) / math.Sqrt(0.2*0.8*float64(of))
	t.Logf("most striking of all tables %.1f standard deviations; classifier %d of %d, %.1f", z, right, of, dev)
	if z > maxDeviation {
		t.Errorf("the place shows in %s: %.0f standard deviations", where, z)
	}
	if dev > maxGuess {
		t.Errorf("a classifier guesses %d of %d places", right, of)
	}
}
