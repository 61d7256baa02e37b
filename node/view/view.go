package view

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// Sizes of a view. All are ours; any value works.
const (
	maxView       = 4096 // relays remembered
	maxPerVoucher = 256  // relays not met that one neighbourhood of peers vouches for
	needVouchers  = 2    // from distinct neighbourhoods, where the relay was not met itself
	maxPerHood    = 256  // relays of one /16; not on loopback

	// FreshFor is how long after its last descriptor or answer a relay counts as
	// up; descriptors are signed hourly.
	FreshFor = 90 * time.Minute
)

// View is what this node knows of the network: descriptors of relays, who
// vouched for each, and how they did. It never asks anybody. All its methods
// are safe for concurrent use.
type View struct {
	self    wire.NodeID
	network string
	policy  Policy
	now     func() time.Time
	Doubts  *Doubts // of the failures of paths

	mu      sync.Mutex
	relays  map[wire.NodeID]*known    // guarded by mu
	charged map[relay.Hood]int        // relays not met, by who vouches for them; guarded by mu
	hoods   map[netip.Prefix]int      // relays by neighbourhood; guarded by mu
	changed chan struct{}             // closed and replaced when a relay becomes usable or is lost; guarded by mu
	split   map[wire.NodeID]time.Time // signed too many descriptors; not believed until then; guarded by mu
	dirty   bool                      // since the last save; guarded by mu
	heard   time.Time                 // when anybody answered last; guarded by mu
}

// known is one relay of the view.
type known struct {
	desc     wire.Descriptor
	vouchers []relay.Hood // at most needVouchers, distinct; nil once it is met
	met      bool         // the relay itself gave this or an earlier descriptor
	taken    bool         // it has none any more: it said so itself; a newer one makes that untrue
	answered time.Time    // last
	visited  time.Time    // last, at a visit
	rate     float64      // bytes a second measured through it; 0: not measured

	own, visits, asked health

	before   *wire.Descriptor // what desc replaced, while it is used still; nil: nothing
	since    time.Time        // desc is known
	versions []signed         // descriptors seen of late
}

// New makes an empty view for the node self. It learns what is signed for the
// network and has addresses that p allows; now is its clock, nil is time.Now.
func New(self wire.NodeID, network string, p Policy, now func() time.Time) *View {
	if now == nil {
		now = time.Now
	}
	return &View{
		self: self, network: network, policy: p, now: now, Doubts: &Doubts{now: now},
		relays: make(map[wire.NodeID]*known), charged: make(map[relay.Hood]int),
		hoods: make(map[netip.Prefix]int), changed: make(chan struct{}), split: make(map[wire.NodeID]time.Time),
	}
}

func (v *View) signalLocked() {
	close(v.changed)
	v.changed = make(chan struct{})
}

// Signal lets those go on who wait for the view to change.
func (v *View) Signal() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.signalLocked()
}

// Wait returns a channel that is closed when the usable relays change.
func (v *View) Wait() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// Expire drops descriptors whose time has passed.
func (v *View) Expire() {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	lost := false
	for id, k := range v.relays {
		if !now.Before(k.desc.Expires) {
			lost = lost || k.confirmed()
			v.dropLocked(id, k)
		}
	}
	for id, until := range v.split {
		if !now.Before(until) {
			delete(v.split, id)
		}
	}
	if lost {
		v.signalLocked()
	}
}

// Failed notes that a visit to id Failed.
func (v *View) Failed(id wire.NodeID) {
	v.note(id, func(k *known, now time.Time) {
		k.own.fail(now, v.heard)
		k.visits.fail(now, v.heard)
	})
}

// HopFailed notes that one of this node's own paths failed at id.
func (v *View) HopFailed(id wire.NodeID) {
	v.note(id, func(k *known, now time.Time) { k.own.fail(now, v.heard) })
}

// AskFailed notes that id could not be asked in another's name.
func (v *View) AskFailed(id wire.NodeID) {
	v.note(id, func(k *known, now time.Time) { k.asked.fail(now, v.heard) })
}

func (v *View) note(id wire.NodeID, f func(k *known, now time.Time)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if k := v.relays[id]; k != nil {
		f(k, v.now())
		v.dirty = true
	}
}

// Online reports whether anybody has answered within the time.
func (v *View) Online(within time.Duration) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.heard.IsZero() && v.now().Sub(v.heard) < within
}

// Resting reports whether a visit to id failed and the pause is not over.
func (v *View) Resting(id wire.NodeID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	return k != nil && k.visits.rests(v.now())
}

// Retry returns when a relay that was met and whose visit failed should be
// visited again; false when it is unknown, well or dead.
func (v *View) Retry(id wire.NodeID) (time.Time, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil || !k.met || k.visits.fails == 0 || k.visits.dead() {
		return time.Time{}, false
	}
	return k.visits.until, true
}

// Alive notes that id answered at a visit.
func (v *View) Alive(id wire.NodeID) {
	v.answered(id, func(k *known) bool {
		k.visited = v.now()
		k.visits.recover()
		k.asked.recover()
		return k.own.recover()
	})
}

// HopWorked notes that one of this node's own paths got past id.
func (v *View) HopWorked(id wire.NodeID) {
	v.answered(id, func(k *known) bool { return k.own.recover() })
}

// AskWorked notes that id answered what was asked in another's name.
func (v *View) AskWorked(id wire.NodeID) {
	v.answered(id, func(k *known) bool { k.asked.recover(); return false })
}

func (v *View) answered(id wire.NodeID, f func(k *known) (back bool)) {
	v.mu.Lock()
	k := v.relays[id]
	if k != nil {
		k.answered = v.now()
		v.heard = k.answered
		if f(k) {
			v.signalLocked()
		}
	}
	v.mu.Unlock()
	if k != nil {
		v.Doubts.Heard()
	}
}

// Dead reports whether id is unknown, or failed many times in a row when it
// was visited or asked in another's name.
func (v *View) Dead(id wire.NodeID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	return k == nil || k.visits.dead() || k.asked.dead()
}

// usableLocked knows nothing of this node's own paths: others see what rests
// on it.
func (v *View) usableLocked(k *known) bool {
	now := v.now()
	return k.confirmed() && !k.visits.dead() && now.Before(k.desc.Expires) && !k.visits.rests(now)
}

// Usable returns the relays that are confirmed and well at visits, in no order.
func (v *View) Usable() []wire.Descriptor {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make([]wire.Descriptor, 0, len(v.relays))
	for _, k := range v.relays {
		if v.usableLocked(k) {
			out = append(out, k.desc)
		}
	}
	return out
}

// Askable returns the super nodes that are well at visits and when asked in
// another's name, in no order.
func (v *View) Askable() []wire.NodeID {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	var out []wire.NodeID
	for id, k := range v.relays {
		if k.desc.Super() && v.usableLocked(k) && !k.asked.dead() && !k.asked.rests(now) {
			out = append(out, id)
		}
	}
	return out
}

// Count returns how many relays are confirmed and not dead, and how many were
// met.
func (v *View) Count() (confirmed, met int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, k := range v.relays {
		if k.confirmed() && !k.visits.dead() {
			confirmed++
		}
		if k.met {
			met++
		}
	}
	return confirmed, met
}

// Sample returns up to n random relays that this node has met itself: to
// vouch for a relay means to have talked to it.
func (v *View) Sample(n int) []wire.Descriptor {
	v.mu.Lock()
	var out []wire.Descriptor
	for _, k := range v.relays {
		if k.met && k.visits.fails == 0 && v.usableLocked(k) {
			out = append(out, k.desc)
		}
	}
	v.mu.Unlock()
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}

// Unmet returns up to n random relays that others told of and that this node
// has not talked to.
func (v *View) Unmet(n int) []wire.NodeID {
	v.mu.Lock()
	var out []wire.NodeID
	now := v.now()
	for id, k := range v.relays {
		if !k.met && !k.visits.rests(now) {
			out = append(out, id)
		}
	}
	v.mu.Unlock()
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}

// Some returns up to n random relays whose time to be tried has come.
func (v *View) Some(n int) []wire.NodeID {
	v.mu.Lock()
	var out []wire.NodeID
	now := v.now()
	for id, k := range v.relays {
		if !k.visits.rests(now) {
			out = append(out, id)
		}
	}
	v.mu.Unlock()
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}

// Hop returns the descriptor of id for a path of this node's own, as the first
// Hop or a later one; false when it cannot be used now.
func (v *View) Hop(id wire.NodeID, first bool) (wire.Descriptor, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, now := v.relays[id], v.now()
	if k == nil || !k.confirmed() || k.own.dead() || k.own.rests(now) || !now.Before(k.desc.Expires) {
		return wire.Descriptor{}, false
	}
	if first {
		return k.desc, true
	}
	return v.settledLocked(k), true
}

// Lookup returns the descriptor of id, confirmed or not.
func (v *View) Lookup(id wire.NodeID) (wire.Descriptor, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil {
		return wire.Descriptor{}, false
	}
	return k.desc, true
}

// Vouched returns the descriptor of a relay that this node would tell others
// of: it has met it.
func (v *View) Vouched(id wire.NodeID) (wire.Descriptor, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil || !k.met || k.taken || !v.now().Before(k.desc.Expires) {
		return wire.Descriptor{}, false
	}
	return k.desc, true
}

// Network is the name of the network that its descriptors are signed for.
func (v *View) Network() string { return v.network }

// Now is the time by the view's clock.
func (v *View) Now() time.Time { return v.now() }
