package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"golang.org/x/time/rate"

	"wanderfs/node/view"
	"wanderfs/relay/wire"
)

// All are ours; any value works.
const (
	wantMet      = 32 // relays to talk to without being asked for more
	visitors     = 6  // peers visited at once
	tellTo       = 8  // peers told of a relay just met
	tellAfter    = 100 * time.Millisecond
	askAgain     = 20 * time.Second // between two asks of one peer
	roundEvery   = time.Minute      // mean time between two rounds when the view is full enough
	lonelyEvery  = 5 * time.Second  // the same with fewer than enoughMet
	enoughMet    = 6
	saveEvery    = 5 * time.Second
	maxQueue     = 512 // peers waiting to be visited
	maxRetries   = 64  // failed relays to be visited again
	exchangeRate = 10  // messages a second accepted from one peer, burst 50

	viewFile = "view" // see view.Bytes
)

// discovery fills the view: it connects to the peers it was given or
// remembers, exchanges descriptors with everybody it gets connected to, tells
// of relays that it has just met, and walks the DHT at random.
type discovery struct {
	t     *transport
	dht   *dht.IpfsDHT
	view  *view.View
	self  *ownDescriptor
	held  *heldRelays
	peers *peerBook
	dir   string // "" persists nothing
	log   *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	// switches tells kad-dht what AutoNAT v2 found out: it listens for the
	// word of v1 only, which this network does without.
	switches event.Emitter

	told bool // the peers heard that this node has a descriptor; used by listen only

	kick chan struct{} // capacity 1: there is something to visit
	met  chan struct{} // capacity 1: there is something to tell

	saving sync.Mutex
	saved  time.Time // guarded by saving

	mu      sync.Mutex
	queue   []peer.ID                     // guarded by mu
	queued  map[peer.ID]bool              // waiting or being visited; guarded by mu
	again   map[peer.ID]bool              // queued, and to be visited once more: what is to be seen has changed meanwhile; guarded by mu
	asked   map[peer.ID]time.Time         // guarded by mu
	fresh   []wire.Descriptor             // met, not yet told; guarded by mu
	keeps   []wire.Held                   // new neighbours that nobody can dial, not yet told; guarded by mu
	retries int                           // goroutines that wait to visit again; guarded by mu
	rates   map[wire.NodeID]*rate.Limiter // guarded by mu
}

func newDiscovery(t *transport, d *dht.IpfsDHT, v *view.View, self *ownDescriptor, held *heldRelays, book *peerBook, dir string, log *slog.Logger) *discovery {
	return &discovery{
		t: t, dht: d, view: v, self: self, held: held, peers: book, dir: dir, log: log,
		kick: make(chan struct{}, 1), met: make(chan struct{}, 1),
		queued: make(map[peer.ID]bool), again: make(map[peer.ID]bool), asked: make(map[peer.ID]time.Time), rates: make(map[wire.NodeID]*rate.Limiter),
	}
}

// start begins. Close ends it.
func (d *discovery) start() error {
	sub, err := d.t.subscribe()
	if err != nil {
		return fmt.Errorf("start discovery: %w", err)
	}
	d.switches, err = d.t.EventBus().Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	if err != nil {
		sub.Close()
		return fmt.Errorf("start discovery: %w", err)
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.view.Doubts.Ask = d.enqueueSome
	d.wg.Go(func() {
		defer d.switches.Close()
		defer sub.Close()
		d.listen(sub)
	})
	d.wg.Go(d.rounds)
	d.wg.Go(d.teller)
	for range visitors {
		d.wg.Go(d.visitor)
	}
	return nil
}

// Close stops discovery, waits for it and saves what it knows.
func (d *discovery) Close() error {
	if d.cancel != nil {
		d.cancel()
	}
	d.wg.Wait()
	return d.save()
}

func (d *discovery) own() (wire.Descriptor, bool) { return d.self.get() }

// allow reports whether from may send one more message now.
func (d *discovery) allow(from wire.NodeID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.rates[from]
	if l == nil {
		if len(d.rates) >= 2*maxConns {
			clear(d.rates)
		}
		l = rate.NewLimiter(exchangeRate, 5*exchangeRate)
		d.rates[from] = l
	}
	return l.Allow()
}

// learn adds what a peer said and decides what follows from it.
func (d *discovery) learn(e exchange, from view.Source) {
	for _, h := range e.held {
		if d.held.add(h, from.Node) {
			d.mu.Lock()
			if len(d.keeps) < maxHeldExchange {
				d.keeps = append(d.keeps, h)
			}
			d.mu.Unlock()
			signal(d.met)
		}
	}
	_, met := d.view.Count()
	for _, desc := range e.ds {
		isNew, visit := d.view.Learn(desc, from)
		if isNew {
			d.mu.Lock()
			if len(d.fresh) < maxExchange {
				d.fresh = append(d.fresh, desc)
			}
			d.mu.Unlock()
			signal(d.met)
		}
		if visit && met < wantMet {
			if p, err := peerOf(desc.Node); err == nil {
				d.enqueue(p)
			}
		}
	}
}

func (d *discovery) listen(sub event.Subscription) {
	look, strandedLook := time.NewTicker(reachEvery), time.NewTicker(strandedEvery)
	defer look.Stop()
	defer strandedLook.Stop()
	var moved stranded
	var nothing time.Time // since when there are peers and no address to try
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-strandedLook.C:
			moved.dropStranded(d.t)
		case now := <-look.C:
			switch {
			case len(d.t.Network().Peers()) == 0 || len(d.t.candidates()) > 0:
				nothing = time.Time{}
			case nothing.IsZero():
				nothing = now
			case now.Sub(nothing) >= reachAfter && d.t.reach.noteNone():
				d.switches.Emit(event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityPrivate})
			}
		case e, ok := <-sub.Out():
			if !ok {
				return
			}
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				for _, id := range e.Protocols {
					if id == d.t.protocols.descriptors {
						d.enqueue(e.Peer)
					}
				}
			case event.EvtHostReachableAddrsChanged:
				if v, news := d.t.reach.note(e); news {
					d.switches.Emit(event.EvtLocalReachabilityChanged{Reachability: v}) // kad-dht serves or only asks
				}
				d.self.refresh()
				d.tellOwn()
			case event.EvtLocalAddressesUpdated:
				d.self.refresh()
			case event.EvtPeerConnectednessChanged:
				if e.Connectedness == network.NotConnected {
					d.lostSight(e.Peer)
				}
			}
		}
	}
}

// teller passes on whom this node has just met, a few at a time.
func (d *discovery) teller() {
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-d.met:
		}
		select { // more arrive together
		case <-d.ctx.Done():
			return
		case <-time.After(tellAfter):
		}
		d.mu.Lock()
		ds, held := d.fresh, d.keeps
		d.fresh, d.keeps = nil, nil
		d.mu.Unlock()
		ps := d.t.Network().Peers()
		rand.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
		for _, p := range ps[:min(len(ps), tellTo)] {
			d.tell(d.ctx, p, ds, held) // who does not hear it learns it otherwise
		}
		d.saveSometimes() // whom a node has just met it knows after a crash, too
	}
}

// rounds connects at the start and keeps the view fresh from then on.
func (d *discovery) rounds() {
	d.saveSometimes() // the peers that the user gave
	d.join()
	for {
		_, met := d.view.Count()
		every := roundEvery
		if met < enoughMet {
			every = lonelyEvery
		}
		select {
		case <-d.ctx.Done():
			return
		case <-time.After(every/2 + rand.N(every)):
		}
		d.self.refresh()
		d.view.Expire()
		d.round()
		d.saveSometimes()
	}
}

// join dials the peers given and remembered, all at once.
func (d *discovery) join() {
	var wg sync.WaitGroup
	for _, info := range d.peers.some(16) {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(d.ctx, 2*dialTimeout)
			defer cancel()
			info.Addrs = resolved(ctx, info.Addrs)
			d.t.Connect(ctx, info)
		})
	}
	wg.Wait()
	d.dht.RefreshRoutingTable()
	for _, id := range d.view.Unmet(visitors) {
		if p, err := peerOf(id); err == nil {
			d.enqueue(p)
		}
	}
}

// round is one step of keeping the view fresh: from several entries, so that
// no single peer decides what this node sees.
func (d *discovery) round() {
	if len(d.t.Network().Peers()) == 0 {
		d.join()
		return
	}
	for _, p := range walks(d.ctx, d.dht) {
		if d.t.Network().Connectedness(p) == network.Connected {
			d.enqueue(p)
		}
	}
	if _, met := d.view.Count(); met < wantMet {
		for _, id := range d.view.Unmet(visitors) {
			if p, err := peerOf(id); err == nil {
				d.enqueue(p)
			}
		}
	}
	ps := d.t.Network().Peers()
	rand.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
	for _, p := range ps[:min(3, len(ps))] {
		d.enqueue(p)
	}
	for _, id := range d.view.Some(2) { // connected or not: who is dead is noticed
		if p, err := peerOf(id); err == nil {
			d.enqueue(p)
		}
	}
}

// saveSometimes saves what is known, unless that was done a moment ago.
func (d *discovery) saveSometimes() {
	d.saving.Lock()
	due := time.Since(d.saved) >= saveEvery
	d.saving.Unlock()
	if due && d.save() != nil {
		d.log.Debug("view not saved")
	}
}

func (d *discovery) save() error {
	if d.dir == "" {
		return nil
	}
	d.saving.Lock()
	defer d.saving.Unlock()
	d.saved = time.Now()
	if b := d.view.Bytes(); b != nil {
		if err := writeFile(filepath.Join(d.dir, viewFile), b); err != nil {
			return fmt.Errorf("save view: %w", err)
		}
	}
	return d.peers.save(filepath.Join(d.dir, peersFile))
}
