package node

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"wanderfs/cache"
	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/node/share"
	"wanderfs/relay/wire"
)

// All are ours; any value works, except reshareSources.
const (
	reshareSources = 5               // other sessions that share it, at least
	reshareAfter   = time.Hour       // from reading to offering, at least
	reshareSpread  = 6               // times reshareAfter, at most
	reshareCheck   = time.Hour       // mean time between two counts of the sources
	reshareLook    = 5 * time.Minute // between two looks whether all is still here
	reshareForget  = 24 * time.Hour  // what was not read whole by then is forgotten

	maxReshareWaiting = 256     // contents that wait
	maxReshareGroups  = 4       // each takes a session with its standing paths
	maxReshareRoots   = 8       // contents of a group
	maxReshareBlocks  = 1 << 13 // of one content; an offer takes about 200 bytes of memory for each
)

// reshareTiming is when things happen; a zero field is the constant's value.
type reshareTiming struct {
	after, check time.Duration
}

// resharer offers what this node has read:
//
//	looked up by a reading task, with enough sources -- a random delay -->
//	all of its tree is in the cache, and a look-up of its own finds enough
//	sources again --> offered by a group, by hash only
//
// The delay, sessions and groups that serve for nothing else, and the demand
// for other sources keep a content that was laid out as bait from naming the
// session that read it. Still, session numbers are free: who runs enough
// sessions himself can bait, and learns that one more session offers it hours
// later.
//
// Sources are counted at a look-up: the session numbers, each once, whose source
// records verify, have not expired and name a gateway that can be dialled. This
// node's own sessions are not counted. A record promises that its session lives;
// nobody is called to see.
//
// No name is put anywhere: those in a search are other people's words. Nothing
// of this is on disk: candidates, groups and their keys end with the process, so
// that after a restart no group shows that it is the old one.
type resharer struct {
	network string
	pool    *pool
	setup   *publishing
	find    func(ctx context.Context, root chunk.Ref) ([]fetch.Route, error)
	cache   *cache.Cache
	share   *share.Share
	timing  reshareTiming
	log     *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	kick   chan struct{} // capacity 1: there is something to do
	rounds chan struct{} // capacity 1: a round is over; tests wait for it

	mu      sync.Mutex
	waiting map[chunk.Ref]awaited // guarded by mu
	groups  []*reshareGroup       // guarded by mu; changed by run alone
}

// awaited is content that may be offered one day.
type awaited struct {
	born time.Time
	due  time.Time // looked at again
}

func newResharer(network string, c *cache.Cache, s *share.Share, pl *pool, setup *publishing,
	find func(context.Context, chunk.Ref) ([]fetch.Route, error), timing reshareTiming, log *slog.Logger,
) *resharer {
	if timing.after <= 0 {
		timing.after = reshareAfter
	}
	if timing.check <= 0 {
		timing.check = reshareCheck
	}
	r := &resharer{
		network: network, pool: pl, setup: setup, find: find, cache: c, share: s, timing: timing, log: log,
		kick: make(chan struct{}, 1), rounds: make(chan struct{}, 1), waiting: make(map[chunk.Ref]awaited),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.run)
	return r
}

// Close withdraws everything and waits. It may be called twice.
func (r *resharer) Close() error {
	r.cancel()
	r.wg.Wait()
	r.mu.Lock()
	groups := r.groups
	r.groups = nil
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, g := range groups {
		wg.Go(func() { g.Close() })
	}
	wg.Wait()
	return nil
}

// seen is told what a reading task's look-up of root has found.
func (r *resharer) seen(root chunk.Ref, routes []fetch.Route) {
	if r.live(routes) < reshareSources {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.waiting[root]; ok || len(r.waiting) >= maxReshareWaiting {
		return
	}
	for _, g := range r.groups {
		if g.holds(root) {
			return
		}
	}
	r.waiting[root] = awaited{born: now, due: now.Add(r.timing.after + rand.N((reshareSpread-1)*r.timing.after))}
	signal(r.kick)
}

// live counts the sessions of others among routes.
func (r *resharer) live(routes []fetch.Route) int {
	numbers := make(map[wire.SessionNumber]bool)
	for _, x := range routes {
		if n := x.Session(); !r.setup.own.has(n) {
			numbers[n] = true
		}
	}
	return len(numbers)
}

// count looks root up, over a path of its own.
func (r *resharer) count(root chunk.Ref) (int, error) {
	ctx, cancel := context.WithTimeout(r.ctx, searchTimeout)
	defer cancel()
	routes, err := r.find(ctx, root)
	return r.live(routes), err
}

func (r *resharer) run() {
	for r.ctx.Err() == nil {
		timer := time.NewTimer(time.Until(r.round()))
		poke(r.rounds)
		select {
		case <-r.ctx.Done():
		case <-r.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// round looks at all that is due and returns when the next look is.
func (r *resharer) round() (next time.Time) {
	next = time.Now().Add(reshareLook)
	mine := make(map[string]bool)
	for _, it := range r.share.Items() {
		mine[string(it.Entry.Ref.Multihash())] = true
	}
	for _, root := range r.due() {
		if r.ctx.Err() != nil {
			return next
		}
		again := !mine[string(root.Multihash())] && r.consider(root)
		r.mu.Lock()
		c := r.waiting[root]
		if again && time.Since(c.born) < reshareForget+reshareSpread*r.timing.after {
			c.due = time.Now().Add(min(r.pause()/4, r.timing.after)) // it may still be read
			r.waiting[root] = c
		} else {
			delete(r.waiting, root)
		}
		r.mu.Unlock()
	}
	for _, g := range r.list() {
		next = earlier(next, r.keep(g, mine))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.waiting {
		next = earlier(next, c.due)
	}
	return next
}

// due lists the candidates to look at now.
func (r *resharer) due() (roots []chunk.Ref) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for root, c := range r.waiting {
		if !now.Before(c.due) {
			roots = append(roots, root)
		}
	}
	return roots
}

// pause is a random time around timing.check.
func (r *resharer) pause() time.Duration { return r.timing.check/2 + rand.N(r.timing.check) }

// consider offers root, or says whether to look at it again.
func (r *resharer) consider(root chunk.Ref) (again bool) {
	blocks, err := wholeTree(r.ctx, r.cache, root)
	switch {
	case errors.Is(err, errNotWhole):
		return true
	case err != nil || len(blocks) == 0:
		return false
	case !r.room():
		return true
	}
	live, err := r.count(root)
	if err != nil {
		return true
	}
	if live < reshareSources {
		return false
	}
	g, err := r.group()
	if err != nil {
		r.log.Debug("no group to reshare by", "err", err)
		return true
	}
	g.add(root, &offer{blocks: blocks, check: time.Now().Add(r.pause())})
	return false
}

// list gives the groups at present.
func (r *resharer) list() []*reshareGroup {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*reshareGroup(nil), r.groups...)
}

func (r *resharer) room() bool {
	groups := r.list()
	if len(groups) < maxReshareGroups {
		return true
	}
	for _, g := range groups {
		if g.len() < maxReshareRoots {
			return true
		}
	}
	return false
}

// group returns the group for one content more: a new one while there may be
// more, for whoever knows two contents of one group sees that they were read by
// one node; else the emptiest.
func (r *resharer) group() (*reshareGroup, error) {
	groups := r.list()
	if len(groups) < maxReshareGroups {
		g, err := newReshareGroup(newAnnouncer(r.network, r.pool, r.setup, r.kick), r.cache)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		r.groups = append(r.groups, g)
		r.mu.Unlock()
		return g, nil
	}
	best := groups[0]
	for _, g := range groups[1:] {
		if g.len() < best.len() {
			best = g
		}
	}
	return best, nil
}

// sessions lists the living ones.
func (r *resharer) sessions() (out []sessionInfo) {
	for _, g := range r.list() {
		have, _ := g.group.sessions()
		out = append(out, have...)
	}
	return out
}

// offered counts the contents that can be found by what this node put.
func (r *resharer) offered() (n int64) {
	for _, g := range r.list() {
		n += g.told()
	}
	return n
}
