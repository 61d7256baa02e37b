package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"wanderfs/node/view"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// A node that nobody can dial relays, too, over connections that it holds: it
// chooses two super nodes, stays connected to them, and says so in a signed
// record without any address (wire.Held). Both of them tell others of it, which
// makes it known: one alone could make relays up. A builder whose path goes
// through one of the two may put it next.
//
// The relay before it does not offer it: the builder chooses among those that
// it has heard of from both. But whoever runs a super node can attach relays of
// his own to it and to a second one, so that to meet the one means to meet the
// other more often than chance has it. Therefore it takes the third place or a
// later one of a reader's half, never the second (the entry would choose who
// comes next, and a publisher's half would be lost with it), never the last, at
// most one a path, and one time in four. Its neighbourhood is not known to the
// builder: that rule does not hold for it. Who stays connected to it learns its
// address, as every neighbour does. Whom it names has nothing to do with whom its
// own paths are pinned to: a relay that it never named, or stopped naming while
// it lives, would be known for one of those.
const (
	heldShare  = 4                // a path in so many takes one, where there is one
	heldEvery  = 5 * time.Second  // between two looks; ours
	heldRest   = 10 * time.Minute // after a failure; ours
	maxHeld    = 1024             // known from others
	maxHere    = 64               // connections kept for others
	maxPerHold = 64               // known through one neighbour
	heldAsks   = 2                // neighbours asked at each look; ours
	heldTag    = "held"
)

// heldRelays knows the relays that nobody can dial, keeps connections to those
// that named this node, and makes this node one of them where it cannot be
// dialled itself. It is safe for concurrent use.
type heldRelays struct {
	t     *transport
	view  *view.View
	self  *ownDescriptor
	share int // heldShare, but for tests
	tell  func(wire.Held)
	visit func(peer.ID)
	now   func() time.Time

	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	known   map[wire.NodeID]*heldRelay // guarded by mu
	per     map[wire.NodeID]int        // known, by neighbour; guarded by mu
	own     wire.Held                  // what this node is, if it is one; guarded by mu
	ownOK   bool                       // guarded by mu
	keeping map[peer.ID]bool           // neighbours kept for own; guarded by mu
}

type heldRelay struct {
	rec   wire.Held
	said  [wire.HeldThrough]bool // by which of its neighbours
	here  bool                   // this node is one of them
	until time.Time              // not to be used before, after a failure
}

func newHeldRelays(t *transport, v *view.View, self *ownDescriptor) *heldRelays {
	return &heldRelays{
		t: t, view: v, self: self, share: heldShare, now: time.Now,
		known: make(map[wire.NodeID]*heldRelay), per: make(map[wire.NodeID]int), keeping: make(map[peer.ID]bool),
	}
}

func (r *heldRelays) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.wg.Go(func() {
		tick := time.NewTicker(heldEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				r.tend()
			}
		}
	})
}

// Close waits; it may be called twice.
func (r *heldRelays) Close() {
	if r.cancel != nil {
		r.cancel()
		r.wg.Wait()
	}
}

// add learns rec from a peer: from the relay itself, if this node is one of
// its neighbours, or from the one neighbour or the other. Everybody else could
// say anything. It returns whether others should hear it from this node.
func (r *heldRelays) add(rec wire.Held, from wire.NodeID) (tell bool) {
	id := rec.Desc.Node
	said := slices.Index(rec.Through[:], from)
	here := slices.Index(rec.Through[:], r.t.id)
	direct := from == id && here >= 0
	if id == r.t.id || !direct && said < 0 {
		return false
	}
	r.mu.Lock()
	k := r.known[id]
	same := k != nil && wire.Same(k.rec, rec)
	r.mu.Unlock()
	if !same && rec.Verify(r.view.Network(), r.now()) != nil { // outside the lock: 0.2 ms
		return false
	}
	r.view.Outdated(rec.Desc)
	p, err := peerOf(id)
	if err != nil || direct && r.t.Network().Connectedness(p) != network.Connected {
		return false
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	k = r.known[id]
	if k != nil && rec.Desc.Issued.Before(k.rec.Desc.Issued) {
		return false // an old one, again
	}
	if k == nil || k.rec.Through != rec.Through { // another one: who said so before said it of the old one
		if !r.roomLocked(rec, direct, k) {
			return false
		}
		if k != nil {
			r.dropLocked(id, k)
		}
		k = &heldRelay{rec: rec}
		r.known[id] = k
		for _, n := range rec.Through {
			r.per[n]++
		}
	}
	fresh := k.rec.Sig != rec.Sig
	k.rec = rec
	if !direct {
		k.said[said] = true
		return false
	}
	tell = !k.here || fresh
	k.here, k.said[here] = true, true
	r.t.ConnManager().Protect(p, heldTag)
	return tell
}

// roomLocked reports whether there is room for rec. Nobody is pushed out: what
// expires makes room.
func (r *heldRelays) roomLocked(rec wire.Held, direct bool, old *heldRelay) bool {
	if old == nil && len(r.known) >= maxHeld {
		return false
	}
	if direct {
		n := 0
		for _, k := range r.known {
			if k.here {
				n++
			}
		}
		return n < maxHere
	}
	for _, n := range rec.Through {
		if n != r.t.id && r.per[n] >= maxPerHold {
			return false
		}
	}
	return true
}

func (r *heldRelays) dropLocked(id wire.NodeID, k *heldRelay) {
	for _, n := range k.rec.Through {
		if r.per[n]--; r.per[n] <= 0 {
			delete(r.per, n)
		}
	}
	if p, err := peerOf(id); err == nil && k.here {
		r.t.ConnManager().Unprotect(p, heldTag)
	}
	delete(r.known, id)
}

// sample returns up to n of the relays that this node is a neighbour of.
func (r *heldRelays) sample(n int) []wire.Held {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []wire.Held
	for id, k := range r.known {
		if p, err := peerOf(id); err == nil && k.here && r.t.Network().Connectedness(p) == network.Connected {
			out = append(out, k.rec)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}

// ownRecord returns this node's own record, if it has one.
func (r *heldRelays) ownRecord() []wire.Held {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ownOK {
		return nil
	}
	return []wire.Held{r.own}
}

// insert puts a held relay into the hops of a reader's half, one time in a
// few, where one is known that fits; the gateway comes after them.
func (r *heldRelays) insert(hops []wire.Descriptor) []wire.Descriptor {
	if len(hops) < 3 || rand.IntN(r.share) != 0 {
		return hops
	}
	i := 2 + rand.IntN(len(hops)-2)
	before := hops[i-1].Node
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var fit []wire.Descriptor
	for _, k := range r.known {
		if slices.Contains(k.rec.Through[:], before) && k.said == [wire.HeldThrough]bool{true, true} &&
			now.After(k.until) && now.Before(k.rec.Desc.Expires) &&
			!slices.ContainsFunc(hops, func(h wire.Descriptor) bool { return h.Node == k.rec.Desc.Node }) { // it was dialable a moment ago
			fit = append(fit, k.rec.Desc)
		}
	}
	if len(fit) == 0 {
		return hops
	}
	out := slices.Clone(hops)
	out[i] = fit[rand.IntN(len(fit))]
	return out
}

// get returns the descriptor of a held relay that may be used now.
func (r *heldRelays) get(id wire.NodeID) (wire.Descriptor, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.known[id]
	if k == nil || !r.now().After(k.until) || !r.now().Before(k.rec.Desc.Expires) {
		return wire.Descriptor{}, false
	}
	return k.rec.Desc, true
}

// joins reports whether id may come after before on a path: unless it is a held
// relay, which hangs on two others.
func (r *heldRelays) joins(before, id wire.NodeID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.known[id]
	return k == nil || slices.Contains(k.rec.Through[:], before)
}

// failed notes that a path could not be built through id, if it is one.
func (r *heldRelays) failed(id wire.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.known[id]; k != nil {
		k.until = r.now().Add(heldRest)
	}
}

// tend drops what has expired or gone, and keeps this node's own record true.
func (r *heldRelays) tend() {
	r.mu.Lock()
	now := r.now()
	var doubtful []peer.ID // who could say the missing word about a relay
	for id, k := range r.known {
		for i, said := range k.said {
			if p, err := peerOf(k.rec.Through[i]); err == nil && !said && r.t.Network().Connectedness(p) == network.Connected {
				doubtful = append(doubtful, p)
			}
		}
		p, err := peerOf(id)
		newer, ok := r.view.Lookup(id)
		dialable := ok && newer.Issued.After(k.rec.Desc.Issued) // by now
		if err != nil || dialable || !now.Before(k.rec.Desc.Expires) || k.here && r.t.Network().Connectedness(p) != network.Connected {
			r.dropLocked(id, k)
		}
	}
	r.mu.Unlock()
	for _, p := range doubtful[:min(len(doubtful), heldAsks)] { // map order is random enough
		r.visit(p)
	}
	r.self.refresh()
	d, ok := r.self.held()
	var through []wire.NodeID
	if ok {
		through = r.neighbours()
	}
	keeping := make(map[peer.ID]bool)
	connected := 0
	for _, id := range through {
		p, err := peerOf(id)
		if err != nil {
			continue
		}
		keeping[p] = true
		r.t.ConnManager().Protect(p, heldTag)
		if r.t.Network().Connectedness(p) == network.Connected {
			connected++
		} else {
			r.visit(p)
		}
	}
	r.mu.Lock()
	for p := range r.keeping {
		if !keeping[p] {
			r.t.ConnManager().Unprotect(p, heldTag)
		}
	}
	r.keeping = keeping
	if connected < wire.HeldThrough {
		r.ownOK = false
		r.mu.Unlock()
		return
	}
	rec := wire.Held{Desc: d, Through: [wire.HeldThrough]wire.NodeID(through)}
	if r.ownOK && r.own.Desc.Sig == d.Sig && r.own.Through == rec.Through {
		r.mu.Unlock()
		return
	}
	r.ownOK = rec.Sign(r.t.key, r.view.Network()) == nil
	r.own = rec
	tell := r.ownOK
	r.mu.Unlock()
	if tell {
		r.tell(rec)
	}
}

// neighbours chooses whom this node stays connected to: super nodes that it
// has met, of different neighbourhoods, always the same ones as long as they
// live: by a secret order in which its pins have no say.
func (r *heldRelays) neighbours() []wire.NodeID {
	type candidate struct {
		d    wire.Descriptor
		rank [sha256.Size]byte
	}
	var all []candidate
	for _, d := range r.view.Usable() {
		if _, met := r.view.Vouched(d.Node); !met || !d.Super() {
			continue
		}
		all = append(all, candidate{d, sha256.Sum256(slices.Concat([]byte("wanderfs/held/1\x00"), r.t.key.Seed(), d.Node[:]))})
	}
	slices.SortFunc(all, func(a, b candidate) int { return bytes.Compare(a.rank[:], b.rank[:]) })
	var out []wire.NodeID
	seen := make(map[netip.Prefix]bool)
	for _, c := range all {
		near := false
		var hoods []netip.Prefix
		for _, a := range r.t.policy.Dialable(c.d) {
			if h := relay.Neighbourhood(a.Addr()); !a.Addr().IsLoopback() {
				hoods = append(hoods, h)
				near = near || seen[h]
			}
		}
		if near {
			continue
		}
		for _, h := range hoods {
			seen[h] = true
		}
		if out = append(out, c.d.Node); len(out) == wire.HeldThrough {
			break
		}
	}
	slices.SortFunc(out, func(a, b wire.NodeID) int { return bytes.Compare(a[:], b[:]) })
	return out[:len(out)/wire.HeldThrough*wire.HeldThrough]
}
