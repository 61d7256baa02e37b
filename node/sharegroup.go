package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/node/index"
	"wanderfs/node/share"
	"wanderfs/relay"
)

// All are ours; any value works.
const (
	settleGateways = 250 * time.Millisecond // changes of gateways are told together
	retellEvery    = 50 * time.Minute       // gateways' descriptors do not last for ever
	recordLife     = 24 * time.Hour         // the longest life of a group record
)

// shareGroup is one group of shares with its sessions.
type shareGroup struct {
	p      *publisher
	i      int
	record index.Group
	server *fetch.Server

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

// loadGroup reads the group's keys from the catalogue or makes them.
func (p *publisher) loadGroup(i int) (index.Group, error) {
	if b := p.share.GroupState(i); len(b) > 0 {
		if g, err := index.UnmarshalGroup(p.network, b); err == nil {
			return g, nil
		}
	}
	g, err := index.NewGroup(p.network)
	if err != nil {
		return g, fmt.Errorf("new group of shares: %w", err)
	}
	b, err := g.MarshalBinary()
	if err == nil {
		err = p.share.SetGroupState(i, b)
	}
	if err != nil {
		return g, fmt.Errorf("keep group of shares: %w", err)
	}
	return g, nil
}

func (g *shareGroup) isTold() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.told
}

func (g *shareGroup) serve(ctx context.Context, c *relay.Conn) {
	g.server.Serve(ctx, c, c.First()) // its end is nobody's business
}

// run keeps a session for the group, with a successor in time, and its record
// in the index up to date.
func (g *shareGroup) run() {
	var drains sync.WaitGroup
	defer drains.Wait()
	cur := g.begin(nil)
	if cur == nil {
		return
	}
	defer func() { g.currentSession().Close() }()
	var next *session
	rotate := time.NewTimer(time.Until(cur.successorAt()))
	defer rotate.Stop()
	retell := time.NewTimer(retellEvery)
	defer retell.Stop()
	defer func() {
		if next != nil {
			next.Close()
		}
	}()
	var nextChanged <-chan struct{}
	for {
		tell := false
		select {
		case <-g.p.ctx.Done():
			return
		case <-cur.changed:
			tell = true
		case <-retell.C:
			tell = true
		case <-rotate.C:
			if next == nil {
				if next = g.begin(cur); next == nil {
					return
				}
				nextChanged = next.changed
			}
			rotate.Reset(time.Minute) // looked at again if no gateway can be found
		case <-nextChanged:
		}
		if next != nil && next.ready() > 0 {
			old := cur
			g.mu.Lock()
			g.current, g.draining = next, append(g.draining, old)
			g.mu.Unlock()
			cur, next, nextChanged = next, nil, nil
			rotate.Reset(time.Until(cur.successorAt()))
			if !g.tell(cur) { // the old one goes on to be known until this works
				signal(cur.changed)
			}
			drains.Go(func() {
				old.drain(g.p.ctx)
				g.mu.Lock()
				defer g.mu.Unlock()
				for i, s := range g.draining {
					if s == old {
						g.draining = append(g.draining[:i:i], g.draining[i+1:]...)
						break
					}
				}
			})
			continue
		}
		if tell {
			retell.Reset(retellEvery)
			if !g.tell(cur) {
				signal(cur.changed)
			}
		}
	}
}

// begin starts a session, trying until the publisher closes.
func (g *shareGroup) begin(old *session) *session {
	for {
		s, err := newSession(g.p.setup, g.serve)
		if err == nil {
			if old == nil {
				g.mu.Lock()
				g.current = s
				g.mu.Unlock()
			}
			return s
		}
		select { // no randomness, no memory: it will not last
		case <-g.p.ctx.Done():
			return nil
		case <-time.After(lastPause):
		}
	}
}

func (g *shareGroup) currentSession() *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current
}

// tell puts the group record for s into the index. It reports false when that
// should be tried again.
func (g *shareGroup) tell(s *session) bool {
	select { // gateways come and go together
	case <-g.p.ctx.Done():
		return true
	case <-time.After(settleGateways):
	}
	select {
	case <-s.changed: // is told now
	default:
	}
	src, ok := s.source(g.p.network)
	if !ok {
		return true // s.changed comes when it listens somewhere
	}
	now := time.Now()
	b, err := src.AppendBinary(nil)
	if err == nil {
		expires := earlier(src.Expires, now.Add(recordLife))
		var rec index.Record
		if rec, err = g.record.Seal(b, uint64(now.UnixMilli()), expires); err == nil {
			err = g.p.put(g.p.ctx, []index.Record{rec})
		}
	}
	if err != nil {
		select {
		case <-g.p.ctx.Done():
		case <-time.After(putRetry/2 + rand.N(putRetry)):
		}
		return false
	}
	g.mu.Lock()
	fresh := !g.told
	g.told = true
	g.mu.Unlock()
	if fresh {
		signal(g.p.kick)
	}
	return true
}
