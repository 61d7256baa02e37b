package node

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// enqueue lets a visitor see p soon, unless it was seen a moment ago.
func (d *discovery) enqueue(p peer.ID) {
	d.mu.Lock()
	if p == d.t.ID() || d.queued[p] || len(d.queue) >= maxQueue || time.Since(d.asked[p]) < askAgain {
		d.mu.Unlock()
		return
	}
	d.queued[p] = true
	d.queue = append(d.queue, p)
	d.mu.Unlock()
	signal(d.kick)
}

// tellOwn visits all that are connected where this node's own descriptor has
// come or gone: they hear of it when they are asked.
func (d *discovery) tellOwn() {
	if _, ok := d.self.get(); ok == d.told {
		return
	}
	d.told = !d.told
	for _, p := range d.t.Network().Peers() {
		d.afresh(p)
	}
}

// afresh visits p, however short ago it was seen, and once more where a visit
// runs.
func (d *discovery) afresh(p peer.ID) {
	d.mu.Lock()
	delete(d.asked, p)
	if d.queued[p] {
		d.again[p] = true
	}
	d.mu.Unlock()
	d.enqueue(p)
}

// enqueueSome lets a few random connected peers be visited: does anybody
// answer?
func (d *discovery) enqueueSome() {
	for range 3 {
		d.enqueueAny()
	}
}

// enqueueAny lets one random connected peer be visited.
func (d *discovery) enqueueAny() {
	ps := d.t.Network().Peers()
	if len(ps) == 0 {
		return
	}
	p := ps[rand.IntN(len(ps))]
	d.mu.Lock()
	delete(d.asked, p)
	d.mu.Unlock()
	d.enqueue(p)
}

// lostSight visits a relay whose connection has ended, so that a dead one is
// known before a path needs it. Where many are known that is left to chance.
func (d *discovery) lostSight(p peer.ID) {
	id, err := nodeOf(p)
	if err != nil {
		return
	}
	if _, ok := d.view.Lookup(id); !ok || !d.allow(id) {
		return
	}
	if _, met := d.view.Count(); met > wantMet {
		return
	}
	d.afresh(p)
}

func (d *discovery) visitor() {
	for d.ctx.Err() == nil {
		d.mu.Lock()
		var p peer.ID
		if len(d.queue) > 0 {
			p = d.queue[0]
			d.queue = d.queue[1:]
			delete(d.again, p) // this visit is late enough
		}
		more := len(d.queue) > 0
		d.mu.Unlock()
		if more {
			signal(d.kick)
		}
		if p == "" {
			select {
			case <-d.ctx.Done():
				return
			case <-d.kick:
			}
			continue
		}
		err := d.visit(d.ctx, p)
		d.mu.Lock()
		again := d.again[p]
		delete(d.again, p)
		delete(d.queued, p)
		if len(d.asked) > 4*maxQueue {
			clear(d.asked)
		}
		if !again {
			d.asked[p] = time.Now()
		}
		d.mu.Unlock()
		switch {
		case again: // whatever came of it, it is over
			d.enqueue(p)
		case err != nil:
			d.retry(p)
		}
	}
}

// visit connects to p where needed and exchanges descriptors.
func (d *discovery) visit(ctx context.Context, p peer.ID) error {
	id, err := nodeOf(p)
	if err != nil {
		return err
	}
	if d.t.Network().Connectedness(p) != network.Connected {
		desc, ok := d.view.Lookup(id)
		if !ok {
			return errUnreachable // it left before it could be asked
		}
		if err := d.t.connect(ctx, desc); err != nil {
			d.view.Failed(id)
			return err
		}
	}
	if err := d.ask(ctx, p); err != nil {
		return err
	}
	d.view.Alive(id)
	d.peers.seen(p, d.t.Peerstore().Addrs(p))
	return nil
}

// retry visits a relay that failed again when its pause is over, until it
// answers or counts as dead.
func (d *discovery) retry(p peer.ID) {
	id, err := nodeOf(p)
	if err != nil {
		return
	}
	at, ok := d.view.Retry(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !ok || d.ctx.Err() != nil || d.retries >= maxRetries {
		return
	}
	d.retries++
	d.wg.Go(func() {
		d.enqueueAny() // the next failure counts only if somebody answered in between
		select {
		case <-d.ctx.Done():
		case <-time.After(time.Until(at)):
		}
		d.mu.Lock()
		d.retries--
		delete(d.asked, p)
		d.mu.Unlock()
		d.enqueue(p)
		d.enqueueAny() // does anybody answer?
	})
}
