package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/node/index"
	"wanderfs/node/share"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// All are ours; any value works.
const (
	settleGateways = 250 * time.Millisecond // changes of gateways are told together
	moreGateways   = 2 * time.Second        // a successor waits so long for the rest of its gateways
	spreadNew      = time.Second            // within which the first session of a new group begins
	spreadKnown    = 5 * time.Second        // the same after a restart, when all groups begin
	retellEvery    = 20 * time.Minute       // gateways' descriptors last an hour
	recordLife     = 24 * time.Hour         // the longest life of a group record
)

// shareGroup is one group of content with its sessions.
type shareGroup struct {
	p      *announcer
	record index.Group
	server *fetch.Server
	spread time.Duration // within which its first session begins

	mu       sync.Mutex
	current  *session   // guarded by mu
	draining []*session // guarded by mu
	told     bool       // its record is in the index; guarded by mu
}

// groupBlocks gives the blocks of one group and no other.
type groupBlocks struct {
	share *share.Share
	group int
}

// Block implements fetch.Blocks.
func (b groupBlocks) Block(ctx context.Context, r chunk.Ref) ([]byte, error) {
	return b.share.Block(ctx, r, b.group)
}

// loadGroup reads the group's keys from the catalogue (known) or makes them.
func (p *publisher) loadGroup(i int) (g index.Group, known bool, err error) {
	if b := p.share.GroupState(i); len(b) > 0 {
		if g, err := index.UnmarshalGroup(p.network, b); err == nil {
			return g, true, nil
		}
	}
	if g, err = index.NewGroup(p.network); err != nil {
		return g, false, fmt.Errorf("new group of shares: %w", err)
	}
	b, err := g.MarshalBinary()
	if err == nil {
		err = p.share.SetGroupState(i, b)
	}
	if err != nil {
		return g, false, fmt.Errorf("keep group of shares: %w", err)
	}
	return g, false, nil
}

func (g *shareGroup) isTold() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.told
}

func (g *shareGroup) serve(ctx context.Context, c *relay.Conn, leave <-chan struct{}) {
	g.server.ServeUntil(ctx, c, c.First(), leave) // its end is nobody's business
}

// rotation is the state of shareGroup.run. A session goes through it from left
// to right, the next one is built before the last one leaves:
//
//	next -- at a gateway --> cur -- a successor took over --> faded
//	     -- the index names the successor --> finish
type rotation struct {
	g         *shareGroup
	cur, next *session
	faded     []*session
	wg        sync.WaitGroup // tellings and finishes
	told      chan telling   // capacity 1
	busy      bool           // a telling is under way
	untold    bool           // cur has changed since the last telling began
}

// telling is how one went.
type telling struct {
	s   *session
	ok  bool  // the index names s
	err error // to be tried again
}

// run keeps a session for the group, with a successor in time, and its record
// in the index up to date. The groups of a node begin apart.
func (g *shareGroup) run() {
	select {
	case <-g.p.ctx.Done():
		return
	case <-time.After(rand.N(g.spread)):
	}
	r := &rotation{g: g, told: make(chan telling, 1)}
	defer r.wg.Wait()
	if r.cur = g.begin(); r.cur == nil {
		return
	}
	defer r.close()
	g.show(r)
	retell, successor, grace := newTimer(retellEvery), newTimer(time.Until(r.cur.successor)), newTimer(0)
	defer retell.Stop()
	defer successor.Stop()
	defer grace.Stop()
	for {
		var changed <-chan struct{}
		if r.next != nil {
			changed = r.next.changed
		}
		select {
		case <-g.p.ctx.Done():
			return
		case <-r.cur.changed:
			r.untold = true
		case <-retell.C:
			r.untold = true
		case t := <-r.told:
			r.answered(t)
		case <-successor.C:
			if r.next = g.begin(); r.next == nil {
				return
			}
		case <-changed:
			grace.Reset(r.patience())
		case <-grace.C:
			if r.next != nil && r.next.ready() > 0 {
				r.takeOver()
				successor.Reset(time.Until(r.cur.successor))
			}
		}
		if r.untold && !r.busy {
			retell.Reset(retellEvery - rand.N(retellEvery/4))
			r.tell()
		}
	}
}

func newTimer(d time.Duration) *time.Timer {
	t := time.NewTimer(d)
	if d == 0 { // only armed by Reset
		t.Stop()
	}
	return t
}

// patience is how long the successor, which listens somewhere, may look for
// more gateways: none if it has all, else as long as it can wait.
func (r *rotation) patience() time.Duration {
	if r.next.ready() == wire.MaxGateways {
		return 0
	}
	return max(0, min(moreGateways, time.Until(r.cur.expires)))
}

func (r *rotation) takeOver() {
	r.cur.retire()
	r.faded = append(r.faded, r.cur)
	r.cur, r.next, r.untold = r.next, nil, true
	r.g.show(r)
}

// answered takes in how a telling went. The sessions before the present one
// are over when the index names that.
func (r *rotation) answered(t telling) {
	r.busy = false
	r.untold = r.untold || t.err != nil
	if !t.ok || t.s != r.cur {
		return
	}
	for _, old := range r.faded {
		r.wg.Go(func() {
			old.finish(r.g.p.ctx)
			r.g.forget(old)
		})
	}
	r.faded = nil
}

func (r *rotation) tell() {
	r.busy, r.untold = true, false
	s := r.cur
	r.wg.Go(func() {
		ok, err := r.g.tell(s)
		r.told <- telling{s, ok, err}
	})
}

// close ends all sessions but those that finish.
func (r *rotation) close() {
	for _, s := range append(r.faded, r.cur, r.next) {
		if s != nil {
			r.wg.Go(func() { s.Close() })
		}
	}
}

// begin starts a session, trying until the publisher closes.
func (g *shareGroup) begin() *session {
	for {
		s, err := newSession(g.p.setup, g.serve)
		if err == nil {
			return s
		}
		select { // no randomness, no memory: it will not last
		case <-g.p.ctx.Done():
			return nil
		case <-time.After(lastPause):
		}
	}
}

// show lets others see which sessions there are.
func (g *shareGroup) show(r *rotation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current != nil {
		g.draining = append(g.draining, g.current)
	}
	g.current = r.cur
}

func (g *shareGroup) forget(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining = slices.DeleteFunc(g.draining, func(o *session) bool { return o == s })
}

// tell puts the group record for s into the index, if s listens anywhere. An
// error means that it should be tried again; it comes after a pause.
func (g *shareGroup) tell(s *session) (ok bool, err error) {
	select { // gateways come and go together
	case <-g.p.ctx.Done():
		return false, nil
	case <-time.After(settleGateways):
	}
	select {
	case <-s.changed: // is told now
	default:
	}
	src, ok := s.source(g.p.network)
	if !ok {
		return false, nil // s.changed comes when it listens somewhere
	}
	now := time.Now()
	b, err := src.AppendBinary(nil)
	if err == nil {
		expires := earlier(src.Expires, now.Add(recordLife))
		var rec index.Record
		if rec, err = g.record.Seal(b, g.record.Seq(now), expires); err == nil {
			err = g.p.put(g.p.ctx, []index.Record{rec})
		}
	}
	if err != nil {
		select {
		case <-g.p.ctx.Done():
		case <-time.After(putRetry/2 + rand.N(putRetry)):
		}
		return false, err
	}
	g.mu.Lock()
	fresh := !g.told
	g.told = true
	g.mu.Unlock()
	if fresh {
		signal(g.p.kick)
	}
	return true, nil
}
