package relay_test

import (
	"bytes"
	"context"
	"io"
	mrand "math/rand/v2"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// watched is circuits that a test lets live.
type watched struct {
	n       *relaytest.Net
	rec     *record
	builder wire.NodeID
	gates   [6]*gate // by relay
	rng     *mrand.Rand
	leak    leak
	brief   bool // lives have an end and hardly more
}

// leak is what is left out, to see that the adversary notices.
type leak struct {
	first, later bool // filler, in the first epoch and those after it
	ends         bool // ends of one kind
}

func newWatched(t *testing.T, l leak) *watched {
	c := &watched{rec: newRecord(), builder: wire.NodeID{1}, rng: mrand.New(mrand.NewPCG(1, 2)), leak: l}
	cfg := relaytest.Config{
		Limits: relay.Limits{Creates: 1e6, PerTarget: 1e6, Queries: 1e6, Opens: 1e6, Turn: 1},
		Far:    func(int) relay.Far { return sized{} },
		Adjust: func(rc *relay.Config) {
			relay.WithoutFiller(rc, nil, l.first, l.later)
			if l.ends {
				relay.LeakEnds(rc, nil)
			}
			me := idOf(rc)
			relay.Watch(rc, func(from wire.NodeID, what string, frame uint64) {
				c.rec.add(event{from: from, to: me, what: what, frame: frame})
			})
		},
	}
	c.rec.tap(&cfg)
	c.n = newNet(t, cfg)
	return c
}

func idOf(c *relay.Config) wire.NodeID { return wire.NodeID(c.Identity[32:]) }

// gate is a session that listens at a relay, and answers on its streams what
// it reads.
type gate struct {
	way
	done chan struct{}
}

// gate gives the session that listens at relay i.
func (c *watched) gate(t *testing.T, i int) *gate {
	if g := c.gates[i]; g != nil && g.pub.Err() == nil {
		return g
	}
	g := &gate{way{s: newSession(t)}, make(chan struct{})}
	g.s.SetEffort(4)
	b := &relay.Builder{Network: c.n.Network(wire.NodeID{2}), NetworkName: relaytest.Name, Quiet: 1 << 40, KeepAlive: 1 << 40, Dead: time.Minute}
	relay.WithoutFiller(nil, b, c.leak.first, c.leak.later)
	var err error
	if g.pub, err = b.Build(testContext(t), c.n.Hops(i)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.pub.Close(); <-g.done })
	if g.listen, err = g.pub.Listen(testContext(t), g.s, g.join); err != nil {
		t.Fatal(err)
	}
	relay.Load(c.n.Relay(i), g.s.Number())
	go func() {
		defer close(g.done)
		for {
			x, err := g.listen.Accept(context.Background())
			if err != nil {
				return
			}
			io.Copy(x, x)
			x.Close()
		}
	}()
	c.gates[i] = g
	return g
}

func newSession(t *testing.T) *relay.Session {
	t.Helper()
	s, err := relay.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Ways in which circuits end. Those in the middle may happen at the builder
// and the far end as well.
const (
	endClosed   = iota // the builder has done with it
	endFailed          // the builder gives it up
	endRefused         // the far end does
	endGivenUp         // a relay does
	endCut             // a connection breaks
	endVariants = 10   // how often each comes: see life
)

// life builds a circuit, lets something travel on it, and ends it; it tells
// whether it ended in the middle of something.
func (c *watched) life(t *testing.T, hops []wire.Descriptor) (busy bool) {
	ctx := testContext(t)
	b := &relay.Builder{Network: c.n.Network(c.builder), NetworkName: relaytest.Name, Quiet: 1 << 40, KeepAlive: 1 << 40, Dead: time.Minute}
	relay.WithoutFiller(nil, b, c.leak.first, c.leak.later)
	if c.leak.ends {
		relay.LeakEnds(nil, b)
	}
	if c.rng.IntN(2) > 0 {
		b.Turn = 1 // as often as it can
	}
	p, err := b.Build(ctx, hops)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ask := func(cells byte) error {
		req := make([]byte, 2+c.rng.IntN(2*wire.MaxData))
		req[0] = cells
		_, err := p.Ask(ctx, req)
		return err
	}
	if c.brief {
		c.end(t, p, hops)
		p.Close()
		c.settle()
		return false
	}
	for range 1 + c.rng.IntN(2) {
		if err := ask(byte(c.rng.IntN(3))); err != nil {
			t.Fatal(err)
		}
	}
	if c.rng.IntN(2) > 0 {
		g := c.gate(t, len(hops)-1)
		c.rec.mark("join")
		x, err := p.Join(ctx, g.s.Keys(), g.join, []byte("first"))
		if err != nil {
			t.Fatal(err)
		}
		for range 1 + c.rng.IntN(3) {
			b := make([]byte, 1+c.rng.IntN(wire.RecordSize)) // one cell: else the answer crosses what is still written, which is a matter of times
			if _, err := x.Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(x, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	over := make(chan struct{})
	if busy = c.rng.IntN(3) == 0; busy {
		c.rec.mark("close")
		cells := byte(c.rng.IntN(20))
		req := make([]byte, 2+c.rng.IntN(12*wire.MaxData))
		req[0] = cells
		all := len(hops) * (len(req)/wire.MaxData + int(cells) + 2) // frames, some more than come
		moment := c.rec.after(c.rng.IntN(all))
		go func() { defer close(over); p.Ask(ctx, req) }()
		select {
		case <-moment:
		case <-over:
		}
	} else {
		c.rec.mark("close")
		close(over)
	}
	c.end(t, p, hops)
	<-over
	p.Close()
	c.settle()
	return busy
}

// end ends a circuit in one of the ways.
func (c *watched) end(t *testing.T, p *relay.Path, hops []wire.Descriptor) {
	path := []wire.NodeID{c.builder}
	for _, d := range hops {
		path = append(path, d.Node)
	}
	switch way := c.rng.IntN(endVariants); way {
	default:
		p.Close()
	case endFailed:
		relay.Fail(p)
	case endRefused:
		if err := relay.Violate(p); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
	case endGivenUp, endGivenUp + 2:
		i := c.rng.IntN(len(hops))
		relay.GiveUp(c.n.Relay(i), path[i])
		<-p.Done()
	case endCut, endCut + 2:
		i := c.rng.IntN(len(hops))
		c.n.Cut(path[i], path[i+1])
		<-p.Done()
	}
}

// settle waits until only the sessions' circuits are left: what is on its way
// belongs to this circuit.
func (c *watched) settle() {
	for i := range 6 {
		left := 0
		if g := c.gates[i]; g != nil && g.pub.Err() == nil {
			left = 1
		}
		c.rec.settle(c.n, i, left)
	}
}

// watch lets circuits live, all through the same entry, and gives what relays
// see to adversaries: as it is, and
// changed by each of the plants.
func (c *watched) watch(t *testing.T, circuits int, plants ...func(*sight)) (seen *adversary, planted []*adversary) {
	t.Helper()
	seen = newAdversary()
	for range plants {
		planted = append(planted, newAdversary())
	}
	for i := range circuits {
		hops := c.n.Hops(0, 1, 2, 3, 4, 5)
		if i%5 < 2 && !c.brief {
			hops = hops[:2+c.rng.IntN(4)]
		}
		busy := c.life(t, hops)
		path := []wire.NodeID{c.builder}
		for _, d := range hops {
			path = append(path, d.Node)
		}
		all := c.rec.take()
		for k := 1; k < len(hops); k++ {
			s := look(all, k, path)
			if !busy {
				s.blocks = s.sizesAndBlocks()
			}
			seen.add(s, busy)
			for at, plant := range plants {
				q := s
				plant(&q)
				if i < 150 || q.frames[setupIn] == nil { // bytes take long
					planted[at].add(q, busy)
				}
			}
		}
	}
	return seen, planted
}

// blank puts zeros into a part of frames.
func blank(fs [][]byte, from, to int) (out [][]byte) {
	for _, f := range fs {
		g := bytes.Clone(f)
		clear(g[from:to])
		out = append(out, g)
	}
	return out
}

// sized answers with as many cells as the first byte says, and one.
type sized struct{}

func (sized) Answer(_ context.Context, req []byte) ([]byte, error) {
	return make([]byte, 10+wire.MaxData*int(req[0])), nil
}
