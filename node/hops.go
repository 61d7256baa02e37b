package node

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"wanderfs/node/view"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// FewRelaysError says that a path cannot be chosen now: the node waits until
// it knows more relays, it never makes the path shorter.
type FewRelaysError = relay.FewRelaysError

// errLeft says that a relay left the view while it was being chosen. The next
// try chooses others.
var errLeft = errors.New("a relay has just gone")

// chooser chooses the relays of this node's paths: relay.Chooser's policy,
// from the view, with what it pins kept on disk. It is safe for concurrent
// use.
type chooser struct {
	view *view.View
	keep *pinStore // nil keeps it in memory only
	log  *slog.Logger

	settling chan struct{} // capacity 1: a path waits for the first pins

	mu     sync.Mutex
	policy *relay.Chooser // guarded by mu
	saved  uint64         // policy.Pins when it was last saved; guarded by mu
}

// newChooser goes on with what is kept. What cannot be read is lost: entries
// are pinned anew.
func newChooser(v *view.View, keep *pinStore, cfg relay.ChoiceConfig, log *slog.Logger) (*chooser, error) {
	c := &chooser{view: v, keep: keep, log: log, settling: make(chan struct{}, 1)}
	state, err := keep.load()
	if err == nil {
		c.policy, err = relay.NewChooser(cfg, state)
	}
	switch {
	case errors.Is(err, errPinsDamaged), errors.Is(err, relay.ErrChoiceState):
		log.Warn("what was kept about pinned relays is damaged, pinning anew")
		c.policy, err = relay.NewChooser(cfg, nil)
	}
	return c, err
}

// path chooses n relays of different neighbourhoods for one half, the first a
// pinned entry. With super the last one is a super node where the path stands,
// none of avoid and not near one; without, avoid is the other end and no hop is
// near it. The error says what is missing.
func (c *chooser) path(n int, super bool, avoid ...wire.Descriptor) ([]wire.Descriptor, error) {
	w := relay.Want{Hops: n, Gateway: super}
	for _, d := range avoid {
		if cand, ok := c.view.Candidate(d); ok {
			w.Avoid = append(w.Avoid, cand)
		}
	}
	if super {
		w.Avoid, w.Others = nil, w.Avoid
	}
	return c.choose(w)
}

// lookup chooses n relays, the last of which answers.
func (c *chooser) lookup(n int) ([]wire.Descriptor, error) {
	return c.choose(relay.Want{Hops: n, Far: true})
}

func (c *chooser) choose(w relay.Want) ([]wire.Descriptor, error) {
	f := c.view.Field()
	c.mu.Lock()
	ids, err := c.policy.Choose(f, w)
	c.saveLocked(false) // before anybody new is shown a path
	c.mu.Unlock()
	if errors.Is(err, relay.ErrSettling) {
		signal(c.settling)
	}
	if err != nil {
		return nil, err
	}
	hops := make([]wire.Descriptor, len(ids))
	for i, id := range ids {
		find := c.view.Settled
		if i == 0 { // it sees in any case whose path it is
			find = c.view.Lookup
		}
		d, ok := find(id)
		if !ok {
			return nil, errLeft
		}
		hops[i] = d
	}
	return hops, nil
}

// built notes how the set-up of a path ended, nil if well. With own, all hops
// were chosen by this node.
func (c *chooser) built(hops []wire.Descriptor, err *relay.HopError, own bool) {
	if err != nil && err.Index == 0 && !errors.Is(err, relay.ErrNoReply) {
		return // the entry was not reached; the view knows
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy.Reached(hops[0].Node)
	if len(hops) > 1 && (err == nil || err.Index > 1) {
		c.policy.Passed(hops[1].Node)
	}
	if own {
		c.policy.Built(hops[0].Node, err == nil)
	}
	c.saveLocked(false)
}

// served notes whether anything came back over a path of own choice that was
// used.
func (c *chooser) served(first wire.NodeID, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy.Served(first, ok)
	c.saveLocked(false)
}

// onlineFor is how long after an answer from anybody this node counts as on
// line. Discovery asks somebody once a minute or so.
const onlineFor = 3 * time.Minute // ours

// watch takes down who was up for the time that has passed. While this node is
// cut off it learns nothing of others: that time does not count.
func (c *chooser) watch(passed time.Duration) {
	if !c.view.Online(onlineFor) {
		return
	}
	f := c.view.Field()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy.Watch(f, passed)
	c.saveLocked(false)
}

// neighbours gives the relays that this node stays connected to.
func (c *chooser) neighbours() []relay.Candidate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy.Neighbours()
}

// stale gives a few watched relays to be visited, because nothing fresh is
// known of them.
func (c *chooser) stale(n int) []wire.NodeID {
	f := c.view.Field()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy.Stale(f, n)
}

// save keeps what was counted since.
func (c *chooser) save() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saveLocked(true)
}

// saveLocked saves when what is pinned has changed, or at any rate. Where that
// fails the node goes on: it holds in memory.
func (c *chooser) saveLocked(always bool) {
	if !always && c.policy.Pins() == c.saved {
		return
	}
	if err := c.keep.save(c.policy.State()); err != nil {
		c.log.Warn("what is pinned could not be kept")
	}
	c.saved = c.policy.Pins()
}
