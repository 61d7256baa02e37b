package node

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"wanderfs/relay/wire"
)

const (
	watchEvery   = 20 * time.Second // ours
	savePins     = 10 * time.Minute // what was counted; what is pinned is saved at once
	maxWatchGap  = 2 * watchEvery   // a pause of the machine counts as no more
	neighbourTag = "neighbour"
	visitStale   = 2 // watched relays visited at each look
)

// keeper keeps the node connected to its neighbours and takes down who is up.
type keeper struct {
	t         *transport
	chooser   *chooser
	discovery *discovery
	settle    time.Duration

	cancel context.CancelFunc
	wg     sync.WaitGroup
	held   map[peer.ID]bool // used by run only
}

func (k *keeper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	k.held = make(map[peer.ID]bool)
	k.wg.Go(func() { k.run(ctx) })
}

// Close waits and saves; it may be called twice.
func (k *keeper) Close() {
	if k.cancel == nil {
		return
	}
	k.cancel()
	k.wg.Wait()
	k.chooser.save()
}

func (k *keeper) run(ctx context.Context) {
	k.connect(ctx) // to those of the last run, before anybody else is chosen
	last, saved := time.Now(), time.Now()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.chooser.settling:
			select {
			case <-ctx.Done():
				return
			case <-time.After(k.settle):
				k.chooser.view.Signal() // paths that waited try again
			}
			continue
		case <-tick.C:
		}
		now := time.Now()
		k.chooser.watch(min(now.Sub(last), maxWatchGap))
		last = now
		k.connect(ctx)
		for _, id := range k.chooser.stale(visitStale) {
			if p, err := peerOf(id); err == nil {
				k.discovery.enqueue(p)
			}
		}
		if now.Sub(saved) >= savePins {
			k.chooser.save()
			saved = now
		}
	}
}

// connect connects to the neighbours that are not, and lets go of those that
// are none any more. One whose descriptor is not known is dialled where it was
// last seen: it gives a new one.
func (k *keeper) connect(ctx context.Context) {
	now := make(map[peer.ID]bool)
	for _, c := range k.chooser.neighbours() {
		p, err := peerOf(c.Node)
		if err != nil {
			continue
		}
		now[p] = true
		if !k.held[p] {
			k.t.ConnManager().Protect(p, neighbourTag)
		}
		if k.t.Network().Connectedness(p) == network.Connected {
			continue
		}
		if _, ok := k.chooser.view.Lookup(c.Node); ok {
			if !k.chooser.view.Resting(c.Node) {
				k.discovery.enqueue(p)
			}
			continue
		}
		k.wg.Go(func() { k.redial(ctx, c.Node, p, c.Addrs) })
	}
	for p := range k.held {
		if !now[p] {
			k.t.ConnManager().Unprotect(p, neighbourTag)
		}
	}
	k.held = now
}

// redial connects to a neighbour where it was last known; identify and
// discovery do the rest.
func (k *keeper) redial(ctx context.Context, id wire.NodeID, p peer.ID, at []netip.AddrPort) {
	addrs := k.t.policy.Dialable(wire.Descriptor{Node: id, Addrs: at})
	if len(addrs) == 0 {
		return
	}
	info := peer.AddrInfo{ID: p}
	for _, a := range addrs {
		info.Addrs = append(info.Addrs, multiaddrOf(a))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	k.t.Connect(ctx, info)
}
