package relay_test

import (
	"io"
	mrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// TestPlaceOnWay looks at a whole way, reader and publisher with a stream
// between them: r1 r2 r3 G p2 p1. The gateway knows that it is one. The others
// see bytes without a difference; sizes, numbers, order, key turns and the end,
// whichever side it comes from, tell the half of the way that a relay is in, as
// the direction of volume does, but not the place in it. SPEC.md §1.2
func TestPlaceOnWay(t *testing.T) {
	ways := 60
	if testing.Short() {
		ways = 20
	}
	w := newWays(t)
	var groups [5]*tables
	for i := range groups {
		groups[i] = &tables{}
	}
	var x [][]float64
	var y []int
	for i := range ways {
		w.live(t)
		all := w.rec.take()
		var seen [5]string
		for place, at := range []struct {
			path []wire.NodeID
			k    int
		}{{w.toRead, 1}, {w.toRead, 2}, {w.toRead, 3}, {w.toPub, 2}, {w.toPub, 1}} {
			s := look(all, at.k, at.path)
			seen[place] = s.order + s.end + s.sizesAndBlocks()
			groups[place].add(s)
			x, y = append(x, s.features()), append(y, place+1)
		}
		if seen[0] != seen[1] || seen[1] != seen[2] || seen[3] != seen[4] {
			t.Errorf("way %d: relays of one half see different things: %q", i, seen)
		}
		if !strings.Contains(seen[0], "<R") || !strings.Contains(seen[4], "<R") {
			t.Errorf("way %d: ends were not seen: %q", i, seen)
		}
	}
	zs := differ(groups[:])
	for kind, z := range zs {
		if z > maxDeviation {
			t.Errorf("the place shows in %s: %.0f standard deviations", kindNames[kind], z)
		}
	}
	t.Logf("most striking tables, kind by kind: %.1f standard deviations", zs)
	for _, f := range judgeGuess(t, "bytes", maxGuess, x, y) {
		t.Error(f)
	}
}

// ways is the relays of a way, and who watches them.
type ways struct {
	n             *relaytest.Net
	rec           *record
	rng           *mrand.Rand
	toRead, toPub []wire.NodeID
}

func newWays(t *testing.T) *ways {
	w := &ways{rec: newRecord(), rng: mrand.New(mrand.NewPCG(3, 4))}
	cfg := relaytest.Config{
		Limits: relay.Limits{Creates: 1e6, PerTarget: 1e6, Opens: 1e6, Turn: 1},
		Adjust: func(rc *relay.Config) {
			me := idOf(rc)
			relay.Watch(rc, func(from wire.NodeID, what string, frame uint64) {
				w.rec.add(event{from: from, to: me, what: what, frame: frame})
			})
		},
	}
	w.rec.tap(&cfg)
	w.n = newNet(t, cfg)
	h := w.n.Hops(0, 1, 2, 3, 4, 5) // r1 r2 r3 G p2 p1
	w.toRead = []wire.NodeID{{1}, h[0].Node, h[1].Node, h[2].Node, h[3].Node}
	w.toPub = []wire.NodeID{{2}, h[5].Node, h[4].Node, h[3].Node}
	return w
}

func (w *ways) builder(id wire.NodeID) *relay.Builder {
	b := &relay.Builder{Network: w.n.Network(id), NetworkName: relaytest.Name, Quiet: 1 << 40, KeepAlive: 1 << 40, Dead: time.Minute}
	if w.rng.IntN(2) > 0 {
		b.Turn = 1
	}
	return b
}

// live lets a reader and a publisher meet, talk and part.
func (w *ways) live(t *testing.T) {
	ctx := testContext(t)
	m := &way{s: newSession(t)}
	if w.rng.IntN(2) > 0 { // work for the reader
		m.s.SetEffort(4)
	}
	var err error
	if m.pub, err = w.builder(w.toPub[0]).Build(ctx, w.n.Hops(5, 4, 3)); err != nil {
		t.Fatal(err)
	}
	if m.listen, err = m.pub.Listen(ctx, m.s, m.join); err != nil {
		t.Fatal(err)
	}
	relay.Load(w.n.Relay(3), m.s.Number())
	if m.read, err = w.builder(w.toRead[0]).Build(ctx, w.n.Hops(0, 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	w.rec.mark("join") // frames of no SOLUTION are as good to compare
	r, p := m.meet(t, []byte("first"))
	for range 1 + w.rng.IntN(3) {
		for _, c := range [][2]*relay.Conn{{r, p}, {p, r}} {
			b := make([]byte, 1+w.rng.IntN(3*wire.RecordSize))
			if _, err := c[0].Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c[1], b); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.rec.mark("close")
	// Who ends it, and how; the other hears of it by the stream, and ends his
	// half then.
	first, second, hears := m.read, m.pub, p
	if w.rng.IntN(2) > 0 {
		first, second, hears = m.pub, m.read, r
	}
	if w.rng.IntN(2) > 0 {
		first.Close()
	} else {
		relay.Fail(first)
	}
	if _, err := hears.Read(make([]byte, 1)); err == nil {
		t.Error("the stream goes on without its path")
	}
	second.Close()
	first.Close()
	for k := range 6 { // what is on its way belongs to this way
		w.rec.settle(w.n, k, 0)
	}
}
