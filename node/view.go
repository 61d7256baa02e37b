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
	maxView        = 4096        // relays remembered
	maxPerVoucher  = 256         // relays not met that one neighbourhood of peers vouches for
	needVouchers   = 2           // from distinct neighbourhoods, where the relay was not met itself
	maxPerHood     = 256         // relays of one /16; not on loopback
	firstRest      = time.Second // after a first failure: is it gone, or was it chance?
	firstBackoff   = 5 * time.Second
	longestBackoff = time.Hour
	silentAfter    = 2                // failures in a row that count, see failed
	deadAfter      = 4                // likewise
	freshFor       = 90 * time.Minute // after its last descriptor or answer a relay counts as up; descriptors are signed hourly
)

// view is what this node knows of the network: descriptors of relays, who
// vouched for each, and how they did. It never asks anybody. All its methods
// are safe for concurrent use.
type view struct {
	self    wire.NodeID
	network string
	policy  addrPolicy
	now     func() time.Time

	mu      sync.Mutex
	relays  map[wire.NodeID]*known // guarded by mu
	charged map[relay.Hood]int     // relays not met, by who vouches for them; guarded by mu
	hoods   map[netip.Prefix]int   // relays by neighbourhood; guarded by mu
	changed chan struct{}          // closed and replaced when a relay becomes usable or is lost; guarded by mu
	dirty   bool                   // since the last save; guarded by mu
	heard   time.Time              // when anybody answered last; guarded by mu
}

// known is one relay of the view.
type known struct {
	desc     wire.Descriptor
	vouchers []relay.Hood // at most needVouchers, distinct; nil once it is met
	met      bool         // the relay itself gave this or an earlier descriptor
	fails    int          // in a row, of those that count
	failed   time.Time    // the last that counts
	until    time.Time    // not to be used before, after failures
	answered time.Time    // last
	rate     float64      // bytes a second measured through it; 0: not measured
}

func newView(self wire.NodeID, network string, p addrPolicy, now func() time.Time) *view {
	if now == nil {
		now = time.Now
	}
	return &view{
		self: self, network: network, policy: p, now: now,
		relays: make(map[wire.NodeID]*known), charged: make(map[relay.Hood]int),
		hoods: make(map[netip.Prefix]int), changed: make(chan struct{}),
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
	if lost {
		v.signalLocked()
	}
}

// failed notes that id could not be reached or broke off. It is not used again
// before a short time, which is longer and doubles from the second failure on. A failure counts only when the
// pause after the last one is over and somebody else has answered since: many
// tries at once tell no more than one, and where nobody answers it is this
// node that is cut off.
func (v *view) failed(id wire.NodeID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil {
		return
	}
	now := v.now()
	if k.fails > 0 {
		if now.Before(k.until) {
			return
		}
		if !v.heard.After(k.failed) {
			k.until = now.Add(firstBackoff)
			return
		}
	}
	k.until = now.Add(firstRest)
	if k.fails > 0 {
		k.until = now.Add(min(firstBackoff<<min(k.fails-1, 20), longestBackoff))
	}
	k.fails++
	k.failed = now
	v.dirty = true
}

// online reports whether anybody has answered within the time.
func (v *view) online(within time.Duration) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.heard.IsZero() && v.now().Sub(v.heard) < within
}

// resting reports whether id failed and its pause is not over.
func (v *view) resting(id wire.NodeID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	return k != nil && v.now().Before(k.until)
}

// retry returns when a relay that was met and failed should be visited again;
// false when it is unknown, well or dead.
func (v *view) retry(id wire.NodeID) (time.Time, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil || !k.met || k.fails == 0 || k.fails >= deadAfter {
		return time.Time{}, false
	}
	return k.until, true
}

// alive notes that id did its work.
func (v *view) alive(id wire.NodeID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil {
		return
	}
	k.answered = v.now()
	v.heard = k.answered
	if k.fails > 0 {
		k.fails, k.until = 0, time.Time{}
		v.signalLocked()
	}
}

// dead reports whether id is unknown or failed many times in a row.
func (v *view) dead(id wire.NodeID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	return k == nil || k.fails >= deadAfter
}

// get returns the descriptor of id when it may be used as a relay.
func (v *view) get(id wire.NodeID) (wire.Descriptor, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil || !v.usableLocked(k) {
		return wire.Descriptor{}, false
	}
	return k.desc, true
}

func (v *view) usableLocked(k *known) bool {
	now := v.now()
	return k.confirmed() && k.fails < deadAfter && now.Before(k.desc.Expires) && !now.Before(k.until)
}

// usable returns the relays that may be used now, in no order.
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

// count returns how many relays are confirmed and not dead, and how many were
// met.
func (v *view) count() (confirmed, met int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, k := range v.relays {
		if k.confirmed() && k.fails < deadAfter {
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
		if k.met && k.fails == 0 && v.usableLocked(k) {
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
		if !k.met && !now.Before(k.until) {
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
		if !now.Before(k.until) {
			out = append(out, id)
		}
	}
	v.mu.Unlock()
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
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
