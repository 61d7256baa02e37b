package node

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// Sizes of a view. All are ours; any value works.
const (
	maxView        = 4096 // relays remembered
	maxPerVoucher  = 256  // relays that one peer alone may have told of
	maxVouchers    = 8    // remembered for a relay
	needVouchers   = 2    // distinct peers, where the relay was not met itself
	maxPerHood     = 256  // relays of one /16; not on loopback
	firstBackoff   = 5 * time.Second
	longestBackoff = time.Hour
	deadAfter      = 4                // failures in a row that count, see failed
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
	alone   map[wire.NodeID]int    // unconfirmed relays by their only voucher; guarded by mu
	hoods   map[netip.Prefix]int   // relays by neighbourhood; guarded by mu
	changed chan struct{}          // closed and replaced when a relay becomes usable or is lost; guarded by mu
	dirty   bool                   // since the last save; guarded by mu
	heard   time.Time              // when anybody answered last; guarded by mu
}

// known is one relay of the view.
type known struct {
	desc     wire.Descriptor
	vouchers []wire.NodeID // distinct, oldest first
	met      bool          // the relay itself gave this or an earlier descriptor
	fails    int           // in a row, of those that count
	failed   time.Time     // the last that counts
	until    time.Time     // not to be used before, after failures
	answered time.Time     // last
	rate     float64       // bytes a second measured through it; 0: not measured
}

func newView(self wire.NodeID, network string, p addrPolicy, now func() time.Time) *view {
	if now == nil {
		now = time.Now
	}
	return &view{
		self: self, network: network, policy: p, now: now,
		relays: make(map[wire.NodeID]*known), alone: make(map[wire.NodeID]int),
		hoods: make(map[netip.Prefix]int), changed: make(chan struct{}),
	}
}

// add learns d from a peer. It returns whether d was new and came from the
// relay itself (met), and whether the relay is known but has not been met yet,
// so that a visit would tell more (visit). Invalid descriptors are dropped.
func (v *view) add(d wire.Descriptor, from wire.NodeID) (met, visit bool) {
	dialable := v.policy.dialable(d)
	if d.Node == v.self || d.Node.IsZero() || len(dialable) == 0 || len(oneHome(dialable)) < len(dialable) {
		return false, false
	}
	v.mu.Lock()
	k := v.relays[d.Node]
	same := k != nil && k.desc.Sig == d.Sig
	v.mu.Unlock()
	if !same && d.Verify(v.network, v.now()) != nil { // outside the lock: 0.1 ms
		return false, false
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	direct := d.Node == from
	k = v.relays[d.Node]
	if k == nil {
		if !direct && v.alone[from] >= maxPerVoucher || !v.roomLocked(d, direct) {
			return false, false
		}
		k = &known{desc: d}
		v.relays[d.Node] = k
		v.countLocked(d, 1)
		if !direct {
			v.alone[from]++
			k.vouchers = []wire.NodeID{from}
		}
	} else if d.Issued.After(k.desc.Issued) {
		v.countLocked(k.desc, -1)
		v.countLocked(d, 1)
		k.desc = d
	}
	before := k.confirmed()
	wasMet := k.met
	if direct {
		k.met = true
		if k.fails >= deadAfter { // it is back
			k.fails, k.until = 0, time.Time{}
			v.signalLocked()
		}
	} else if !slices.Contains(k.vouchers, from) && len(k.vouchers) < maxVouchers {
		k.vouchers = append(k.vouchers, from)
	}
	v.dirty = true
	if k.confirmed() && !before {
		v.notAloneLocked(k)
		v.signalLocked()
	}
	return direct && !wasMet, !k.met && !v.now().Before(k.until)
}

func (k *known) confirmed() bool { return k.met || len(k.vouchers) >= needVouchers }

func (v *view) notAloneLocked(k *known) {
	if len(k.vouchers) == 0 {
		return
	}
	first := k.vouchers[0]
	if v.alone[first]--; v.alone[first] <= 0 {
		delete(v.alone, first)
	}
}

func (v *view) countLocked(d wire.Descriptor, n int) {
	for _, a := range v.policy.dialable(d) {
		if a.Addr().IsLoopback() {
			continue
		}
		h := neighbourhood(a)
		if v.hoods[h] += n; v.hoods[h] <= 0 {
			delete(v.hoods, h)
		}
	}
}

// roomLocked makes room for d or refuses it. Who was met pushes out who was
// only told of, never the other way round.
func (v *view) roomLocked(d wire.Descriptor, direct bool) bool {
	for _, a := range v.policy.dialable(d) {
		if !a.Addr().IsLoopback() && v.hoods[neighbourhood(a)] >= maxPerHood {
			return false
		}
	}
	if len(v.relays) < maxView {
		return true
	}
	for id, k := range v.relays { // map order is random enough for a victim
		if !k.confirmed() || direct && !k.met {
			v.dropLocked(id, k)
			return true
		}
	}
	return false
}

func (v *view) dropLocked(id wire.NodeID, k *known) {
	if !k.confirmed() {
		v.notAloneLocked(k)
	}
	v.countLocked(k.desc, -1)
	delete(v.relays, id)
	v.dirty = true
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
// before a time that doubles with each failure. A failure counts only when the
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
	k.until = now.Add(min(firstBackoff<<min(k.fails, 20), longestBackoff))
	k.fails++
	k.failed = now
	v.dirty = true
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

// candidateOf gives a descriptor as the policy of choice sees it; false when it
// has no address that may be dialled.
func (v *view) candidateOf(d wire.Descriptor) (relay.Candidate, bool) {
	c := relay.Candidate{Node: d.Node, Addrs: v.policy.dialable(d), Super: d.Super()}
	return c, len(c.Addrs) > 0
}

// field gives the confirmed relays to choose from, as they are now.
func (v *view) field() *relay.Field {
	v.mu.Lock()
	now := v.now()
	out := make([]relay.Candidate, 0, len(v.relays))
	for id, k := range v.relays {
		if !k.confirmed() || id == v.self || !now.Before(k.desc.Expires) {
			continue
		}
		c, ok := v.candidateOf(k.desc)
		if !ok {
			continue
		}
		c.Met, c.Rate = k.met, k.rate
		c.Up = k.fails == 0 && (now.Sub(k.desc.Issued) < freshFor || now.Sub(k.answered) < freshFor)
		c.Failed, c.Dead = now.Before(k.until), k.fails >= deadAfter
		out = append(out, c)
	}
	v.mu.Unlock()
	return relay.NewField(out)
}

// carried notes that a path through the relays ran at a rate, in bytes a
// second. Each of them can do at least that; what was seen before fades slowly,
// since one slow relay holds up all others of a path.
func (v *view) carried(ids []wire.NodeID, rate float64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range ids {
		if k := v.relays[id]; k != nil {
			k.rate = max(rate, k.rate*0.98)
		}
	}
}
