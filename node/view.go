package node

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
	maxView       = 4096             // relays remembered
	maxPerVoucher = 256              // relays not met that one neighbourhood of peers vouches for
	needVouchers  = 2                // from distinct neighbourhoods, where the relay was not met itself
	maxPerHood    = 256              // relays of one /16; not on loopback
	freshFor      = 90 * time.Minute // after its last descriptor or answer a relay counts as up; descriptors are signed hourly
)

// view is what this node knows of the network: descriptors of relays, who
// vouched for each, and how they did. It never asks anybody. All its methods
// are safe for concurrent use.
type view struct {
	self    wire.NodeID
	network string
	policy  addrPolicy
	now     func() time.Time
	doubts  *doubts

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

func newView(self wire.NodeID, network string, p addrPolicy, now func() time.Time) *view {
	if now == nil {
		now = time.Now
	}
	return &view{
		self: self, network: network, policy: p, now: now, doubts: &doubts{now: now},
		relays: make(map[wire.NodeID]*known), charged: make(map[relay.Hood]int),
		hoods: make(map[netip.Prefix]int), changed: make(chan struct{}), split: make(map[wire.NodeID]time.Time),
	}
}

func (v *view) signalLocked() {
	close(v.changed)
	v.changed = make(chan struct{})
}

// signal lets those go on who wait for the view to change.
func (v *view) signal() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.signalLocked()
}

// wait returns a channel that is closed when the usable relays change.
func (v *view) wait() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// expire drops descriptors whose time has passed.
func (v *view) expire() {
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

// failed notes that a visit to id failed.
func (v *view) failed(id wire.NodeID) {
	v.note(id, func(k *known, now time.Time) {
		k.own.fail(now, v.heard)
		k.visits.fail(now, v.heard)
	})
}

// hopFailed notes that one of this node's own paths failed at id.
func (v *view) hopFailed(id wire.NodeID) {
	v.note(id, func(k *known, now time.Time) { k.own.fail(now, v.heard) })
}

// askFailed notes that id could not be asked in another's name.
func (v *view) askFailed(id wire.NodeID) {
	v.note(id, func(k *known, now time.Time) { k.asked.fail(now, v.heard) })
}

func (v *view) note(id wire.NodeID, f func(k *known, now time.Time)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if k := v.relays[id]; k != nil {
		f(k, v.now())
		v.dirty = true
	}
}

// online reports whether anybody has answered within the time.
func (v *view) online(within time.Duration) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.heard.IsZero() && v.now().Sub(v.heard) < within
}

// resting reports whether a visit to id failed and the pause is not over.
func (v *view) resting(id wire.NodeID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	return k != nil && k.visits.rests(v.now())
}

// retry returns when a relay that was met and whose visit failed should be
// visited again; false when it is unknown, well or dead.
func (v *view) retry(id wire.NodeID) (time.Time, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil || !k.met || k.visits.fails == 0 || k.visits.dead() {
		return time.Time{}, false
	}
	return k.visits.until, true
}

// alive notes that id answered at a visit.
func (v *view) alive(id wire.NodeID) {
	v.answered(id, func(k *known) bool {
		k.visited = v.now()
		k.visits.recover()
		k.asked.recover()
		return k.own.recover()
	})
}

// hopWorked notes that one of this node's own paths got past id.
func (v *view) hopWorked(id wire.NodeID) {
	v.answered(id, func(k *known) bool { return k.own.recover() })
}

// askWorked notes that id answered what was asked in another's name.
func (v *view) askWorked(id wire.NodeID) {
	v.answered(id, func(k *known) bool { k.asked.recover(); return false })
}

func (v *view) answered(id wire.NodeID, f func(k *known) (back bool)) {
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
		v.doubts.heard()
	}
}

// dead reports whether id is unknown, or failed many times in a row when it
// was visited or asked in another's name.
func (v *view) dead(id wire.NodeID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	return k == nil || k.visits.dead() || k.asked.dead()
}

// usableLocked knows nothing of this node's own paths: others see what rests
// on it.
func (v *view) usableLocked(k *known) bool {
	now := v.now()
	return k.confirmed() && !k.visits.dead() && now.Before(k.desc.Expires) && !k.visits.rests(now)
}

// usable returns the relays that are confirmed and well at visits, in no order.
func (v *view) usable() []wire.Descriptor {
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

// askable returns the super nodes that are well at visits and when asked in
// another's name, in no order.
func (v *view) askable() []wire.NodeID {
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

// count returns how many relays are confirmed and not dead, and how many were
// met.
func (v *view) count() (confirmed, met int) {
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

// sample returns up to n random relays that this node has met itself: to
// vouch for a relay means to have talked to it.
func (v *view) sample(n int) []wire.Descriptor {
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

// unmet returns up to n random relays that others told of and that this node
// has not talked to.
func (v *view) unmet(n int) []wire.NodeID {
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

// some returns up to n random relays whose time to be tried has come.
func (v *view) some(n int) []wire.NodeID {
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

// hop returns the descriptor of id for a path of this node's own, as the first
// hop or a later one; false when it cannot be used now.
func (v *view) hop(id wire.NodeID, first bool) (wire.Descriptor, bool) {
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

// lookup returns the descriptor of id, confirmed or not.
func (v *view) lookup(id wire.NodeID) (wire.Descriptor, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil {
		return wire.Descriptor{}, false
	}
	return k.desc, true
}
