package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/node/view"
	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// whole is a reader and a publisher, with all that a node does between the
// index and the reader's bytes, in a network of relays over in-memory links:
// rows of relays, paths, sessions, standing gateways, requests. It is to be
// used in a synctest bubble.
type whole struct {
	t       *testing.T
	net     *relaytest.Net
	index   map[wire.NodeID]int
	book    *blocks
	pub     *session // that all publishing begins with
	source  func() (wire.Source, bool)
	pubs    *paths
	find    *finder
	fetch   *fetch.Fetcher
	line    relaytest.Faulty // all that the reader dials
	closers []func()

	mu   sync.Mutex
	told map[wire.NodeID]bool // gateways that the reader knows of; guarded by mu
	mute map[wire.NodeID]bool // dead or frozen; guarded by mu
}

// blocks are a file's. It is a fetch.Blocks and a chunk.Sink.
type blocks struct {
	root chunk.Ref
	data []byte
	m    map[chunk.Ref][]byte
}

func newBlocks(t *testing.T, size int) *blocks {
	t.Helper()
	b := &blocks{data: make([]byte, size), m: make(map[chunk.Ref][]byte)}
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b.data)
	e, err := chunk.ImportFile(t.Context(), bytes.NewReader(b.data), int64(size), b)
	if err != nil {
		t.Fatal(err)
	}
	b.root = e.Ref
	return b
}

// Node implements chunk's sink.
func (b *blocks) Node(r chunk.Ref, p []byte) error { b.m[r] = bytes.Clone(p); return nil }

// Leaf implements chunk's sink.
func (b *blocks) Leaf(r chunk.Ref, off, n int64) error { b.m[r] = b.data[off : off+n]; return nil }

// Block implements fetch.Blocks.
func (b *blocks) Block(_ context.Context, r chunk.Ref) ([]byte, error) {
	if p, ok := b.m[r]; ok {
		return p, nil
	}
	return nil, errors.New("not held")
}

// newWhole starts both ends and waits until the session listens at n gateways.
func newWhole(t *testing.T, cfg relaytest.Config, content *blocks, gateways int, fcfg fetch.Config) *whole {
	t.Helper()
	w := startWhole(t, cfg, content)
	server := &fetch.Server{Blocks: content}
	var err error
	w.pub, err = newSession(w.publishing(0, steady), func(ctx context.Context, c *relay.Conn, leave <-chan struct{}) {
		_ = server.ServeUntil(ctx, c, c.First(), leave)
		c.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	w.closers = append(w.closers, func() { w.pub.Close() })
	for w.pub.ready() < gateways {
		time.Sleep(100 * time.Millisecond)
	}
	w.source = func() (wire.Source, bool) { return w.pub.source(relaytest.Name) }
	w.read(steady, fcfg)
	return w
}

// steady is a mean life of sessions that no test outlives.
const steady = 2 * time.Hour

// startWhole starts the relays.
func startWhole(t *testing.T, cfg relaytest.Config, content *blocks) *whole {
	t.Helper()
	n, err := relaytest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &whole{t: t, net: n, index: make(map[wire.NodeID]int), book: content, told: make(map[wire.NodeID]bool), mute: make(map[wire.NodeID]bool)}
	for i := range cfg.Relays {
		w.index[n.Hops(i)[0].Node] = i
	}
	w.closers = append(w.closers, func() { n.Close() })
	w.pubs = w.user(cfg.Relays)
	return w
}

// publishing gives what the publisher's sessions share. A node of his sends up
// bytes a second; 0: no limit.
func (w *whole) publishing(up int64, life time.Duration) *publishing {
	w.pubs.builder.Network = budgeted{w.pubs.builder.Network}
	return &publishing{paths: w.pubs, view: w.pubs.view, shares: relay.NewShares(up, true), hops: 2, life: life}
}

// read starts the reader, whose sessions have a mean life.
func (w *whole) read(life time.Duration, fcfg fetch.Config) {
	reading := w.user(len(w.index))
	w.line.Network = reading.builder.Network
	reading.builder.Network = &w.line
	w.find = &finder{
		network: relaytest.Name, paths: reading, policy: view.Policy{Lab: true}, hops: 3,
		own: newReadSessions(reading, newLegBook(reading.legSource(3, view.Policy{Lab: true})), life),
	}
	w.closers = append(w.closers, func() { w.find.own.Close() })
	fcfg.Finder = w
	w.fetch = fetch.New(fcfg)
	w.closers = append(w.closers, func() { w.fetch.Close() })
}

// budgeted is a Network on which what a session sends stays within its budget,
// as ownNetwork has it.
type budgeted struct{ relay.Network }

// Dial implements relay.Network.
func (n budgeted) Dial(ctx context.Context, d wire.Descriptor) (relay.Link, error) {
	l, err := n.Network.Dial(ctx, d)
	up, _ := ctx.Value(budgetKey{}).(*relay.Budget)
	if err != nil || up == nil {
		return l, err
	}
	over, end := context.WithCancel(context.Background())
	return &budgetLink{l, up, over, end}, nil
}

type budgetLink struct {
	relay.Link
	up   *relay.Budget
	over context.Context
	end  context.CancelFunc // of over
}

// Write implements relay.Link.
func (l *budgetLink) Write(p []byte) (int, error) {
	if err := l.up.Wait(l.over, len(p)); err != nil {
		return 0, net.ErrClosed
	}
	return l.Link.Write(p)
}

// Close implements relay.Link.
func (l *budgetLink) Close() error { l.end(); return l.Link.Close() }

// Reset implements relay.Link.
func (l *budgetLink) Reset() error { l.end(); return l.Link.Reset() }

// user gives the paths of somebody who has met all relays.
func (w *whole) user(relays int) *paths {
	w.t.Helper()
	var id wire.NodeID
	id[0] = byte(len(w.closers)) + 1
	v := view.New(id, relaytest.Name, view.Policy{Lab: true}, nil)
	for i := range relays {
		d := w.net.Hops(i)[0]
		v.Add(d, d.Node)
	}
	v.Doubts.Ask = func() { // as discovery does; who is not there gives no answer
		for range 3 {
			id := w.net.Hops(rand.IntN(len(w.index)))[0].Node
			time.AfterFunc(200*time.Millisecond, func() {
				w.mu.Lock()
				mute := w.mute[id]
				w.mu.Unlock()
				if !mute {
					v.Alive(id)
				}
			})
		}
	}
	c, err := newChooser(v, nil, relay.ChoiceConfig{Settle: -1}, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	return newPaths(w.net.Builder(), v, c, &heldRelays{share: 1, now: time.Now})
}

// Find implements fetch.Finder: what the index would give.
func (w *whole) Find(_ context.Context, root chunk.Ref) ([]fetch.Route, error) {
	src, ok := w.source()
	if !ok {
		return nil, nil
	}
	w.mu.Lock()
	for _, g := range src.Gateways {
		w.told[g.Node] = true
	}
	w.mu.Unlock()
	b, err := src.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return w.find.routes(root, [][]byte{b}), nil
}

// Close ends all, from the outside in.
func (w *whole) Close() {
	for i := len(w.closers) - 1; i >= 0; i-- {
		w.closers[i]()
	}
}

// ways gives the relays of all ways in use, r1 to p1, that first over which most
// has come.
func (w *whole) ways() (out [][]wire.Descriptor) {
	w.find.paths.mu.Lock()
	var live []*ownPath
	for p := range w.find.paths.live {
		if in, _ := p.Traffic(); p.Err() == nil && in > p.in0 {
			live = append(live, p)
		}
	}
	w.find.paths.mu.Unlock()
	slices.SortFunc(live, func(a, b *ownPath) int {
		x, _ := a.Traffic()
		y, _ := b.Traffic()
		return cmp.Compare(y, x)
	})
	w.pub.mu.Lock()
	defer w.pub.mu.Unlock()
	for _, p := range live {
		for _, g := range w.pub.gateways {
			if g != nil && g.ready && g.desc.Node == p.hops[len(p.hops)-1].Node {
				out = append(out, append(slices.Clone(p.hops), g.hops[1], g.hops[0]))
			}
		}
	}
	return out
}

// kill ends a relay; freeze has it take all and pass nothing on.
func (w *whole) kill(id wire.NodeID)   { w.silence(id); w.net.Kill(w.index[id]) }
func (w *whole) freeze(id wire.NodeID) { w.silence(id); w.net.Freeze(w.index[id]) }

func (w *whole) silence(id wire.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute[id] = true
}

// gateway reports whether the reader was ever told that the session listens at
// a relay: that is then on no path to it but as the last one.
func (w *whole) gateway(id wire.NodeID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told[id]
}

// rows gives the rows of relays of the reading task.
func (w *whole) rows() (out [][]wire.Descriptor) {
	l := w.find.own.legs.of(w.book.root)
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	for _, r := range l.rows {
		out = append(out, r.hops)
	}
	return out
}

// readAll reads the file in order, as fast as it comes, and does at once what
// is asked for when it is at an offset. It gives the longest wait before and
// after.
func (w *whole) readAll(at int, do func()) (before, after time.Duration, err error) {
	return w.readWhile(at, func() (again bool) { do(); return false })
}

// readWhile is readAll for what is to be done again after as many bytes, as long
// as it says so.
func (w *whole) readWhile(at int, do func() (again bool)) (before, after time.Duration, err error) {
	f, err := w.fetch.Open(w.t.Context(), w.book.root, w.book.root)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	buf := make([]byte, 128<<10)
	done, next := false, at
	for off := 0; off < len(w.book.data); off += len(buf) {
		if off >= next {
			if done, next = true, next+at; !do() {
				next = len(w.book.data)
			}
		}
		start := time.Now()
		n, err := f.ReadAt(w.t.Context(), buf, int64(off))
		if took := time.Since(start); done {
			after = max(after, took)
		} else if off > 0 {
			before = max(before, took)
		}
		if err != nil && err != io.EOF {
			return before, after, err
		}
		if !bytes.Equal(buf[:n], w.book.data[off:off+n]) {
			return before, after, errors.New("wrong bytes")
		}
	}
	return before, after, nil
}
