package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"wanderfs/node/view"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// What a path is for.
const (
	purposeRead    = "read"
	purposePublish = "publish"
	purposeLookup  = "lookup"
)

const (
	buildTries   = 5                // sets of hops tried in one go
	buildTimeout = 20 * time.Second // for one of them; ours
	suspectAfter = 2 * time.Second  // who takes so long may never answer; ours
)

// paths builds this node's own paths and knows those that live. It is safe
// for concurrent use.
type paths struct {
	builder *relay.Builder
	view    *view.View
	chooser *chooser
	held    *heldRelays

	mu       sync.Mutex
	live     map[*ownPath]struct{}  // guarded by mu
	building map[*pathInfo]struct{} // guarded by mu
	suspects suspects               // guarded by mu
}

func newPaths(b *relay.Builder, v *view.View, c *chooser, held *heldRelays) *paths {
	return &paths{
		builder: b, view: v, chooser: c, held: held,
		live: make(map[*ownPath]struct{}), building: make(map[*pathInfo]struct{}),
	}
}

// ownPath is a path of this node's own, with what status tells of it.
type ownPath struct {
	*relay.Path
	purpose  string
	hops     []wire.Descriptor
	book     *paths
	draining bool // guarded by book.mu

	judged     bool   // how it does tells of its entry
	in0, sent0 uint64 // traffic of the set-up
}

// Close ends the path and may be called twice.
func (p *ownPath) Close() error {
	p.book.forget(p)
	return p.Path.Close()
}

func (b *paths) forget(p *ownPath) {
	b.mu.Lock()
	_, lives := b.live[p]
	delete(b.live, p)
	if lives && p.failing() {
		b.suspects.fell(p.hops, b.view.Now())
	}
	b.mu.Unlock()
	if !lives {
		return
	}
	var blame func()
	in, sent := p.Traffic()
	fell := p.fell()
	switch {
	case !p.judged:
	case in > p.in0:
		b.chooser.served(p.hops[0].Node, true)
	case sent > p.sent0 && fell:
		blame = func() { b.chooser.served(p.hops[0].Node, false) }
	}
	if fell {
		b.view.Doubts.Failed(blame)
	}
}

// failing reports whether the path has ended by itself, or is, or was when it
// was closed, on the way to that: no sign of life comes.
func (p *ownPath) failing() bool { return p.fell() || p.Overdue() }

// suspect counts the own paths over a relay that have fallen of late, see
// suspects.
func (b *paths) suspect(id wire.NodeID) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.suspects.of(id, b.view.Now())
	for p := range b.live { // those who use it may know before this book does
		if slices.ContainsFunc(p.hops, func(h wire.Descriptor) bool { return h.Node == id }) && p.failing() {
			n++
		}
	}
	return n
}

// fell reports whether the path has ended by itself: nobody here closed it.
func (p *ownPath) fell() bool {
	err := p.Err()
	return err != nil && !errors.Is(err, relay.ErrClosed)
}

func (b *paths) drain(p *ownPath) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.draining = true
}

// build chooses hops and builds a path through them, with other hops when one
// of them fails. An error that choose gives ends it.
func (b *paths) build(ctx context.Context, purpose string, choose func() ([]wire.Descriptor, error)) (*ownPath, error) {
	var last error
	for range buildTries {
		hops, err := choose()
		if err != nil {
			return nil, err
		}
		p, err := b.through(ctx, purpose, hops, true)
		if err == nil {
			return p, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		last = err
	}
	return nil, fmt.Errorf("build path: %w", last)
}

// through builds a path through the hops, and tells the view how they did.
// With own, all of them were chosen by this node: then it tells of the entry,
// too.
func (b *paths) through(ctx context.Context, purpose string, hops []wire.Descriptor, own bool) (*ownPath, error) {
	now := &pathInfo{purpose: purpose, relays: len(hops), state: "building"}
	b.mu.Lock()
	b.building[now] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.building, now)
		b.mu.Unlock()
	}()
	bctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	began := b.view.Now()
	path, err := b.builder.Build(bctx, hops)
	if err != nil {
		if ctx.Err() != nil && b.view.Now().Sub(began) >= suspectAfter { // given up here: somebody on it may be silent
			b.mu.Lock()
			b.suspects.fell(hops, b.view.Now())
			b.mu.Unlock()
		}
		var hop *relay.HopError
		if errors.As(err, &hop) && hop.Index < len(hops) && ctx.Err() == nil {
			b.view.HopFailed(hops[hop.Index].Node)
			b.held.failed(hops[hop.Index].Node)
			b.chooser.built(hops, hop, own)
			if hop.Index == 0 {
				b.view.Doubts.Failed(nil)
			} else { // the first relay has answered, whatever became of the others
				b.view.HopWorked(hops[0].Node)
			}
		}
		return nil, err
	}
	b.chooser.built(hops, nil, own)
	for _, h := range hops {
		b.view.HopWorked(h.Node)
	}
	p := &ownPath{Path: path, purpose: purpose, hops: hops, book: b, judged: own}
	p.in0, p.sent0 = path.Traffic()
	b.mu.Lock()
	b.live[p] = struct{}{}
	b.suspects.passed(hops)
	b.mu.Unlock()
	context.AfterFunc(doneContext{path.Done()}, func() { b.forget(p) })
	return p, nil
}

// noEntry reports whether err says that a path did not get past this node's own
// entries, or that no pinned relay is left to try. To try again soon tells nobody
// anything, and is what finds out that they are gone: another is drawn then.
func noEntry(err error) bool {
	var hop *relay.HopError
	return errors.Is(err, relay.ErrEntriesDown) || errors.Is(err, errRowDown) || errors.As(err, &hop) && hop.Index == 0
}

// doneContext is a context that ends when a channel is closed.
type doneContext struct{ done <-chan struct{} }

func (doneContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c doneContext) Done() <-chan struct{}     { return c.done }
func (doneContext) Value(any) any               { return nil }

// Err implements context.Context.
func (c doneContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// pathInfo is what status tells of one path.
type pathInfo struct {
	purpose string
	relays  int
	state   string
	age     time.Duration
	in, out uint64
}

func (b *paths) list() []pathInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]pathInfo, 0, len(b.live)+len(b.building))
	for i := range b.building {
		out = append(out, *i)
	}
	for p := range b.live {
		i := pathInfo{purpose: p.purpose, relays: p.Hops(), state: "ready", age: time.Since(p.Created())}
		if p.draining {
			i.state = "draining"
		}
		i.in, i.out = p.Traffic()
		out = append(out, i)
	}
	return out
}
