package relay

import (
	"net/netip"
	"slices"

	"wanderfs/relay/wire"
)

// Located is a Link that knows where its neighbour's connection comes from:
// the /16 or /32 of its address (Neighbourhood), which costs more than a
// NodeID. A Link that is none, or says the zero Prefix, counts as a place of
// its own.
type Located interface{ Origin() netip.Prefix }

// whence names an origin.
type whence struct {
	net  netip.Prefix
	node wire.NodeID // where net is none
}

func whenceOf(l Link) whence {
	if x, ok := l.(Located); ok {
		if net := x.Origin(); net.IsValid() {
			return whence{net: net}
		}
	}
	return whence{node: l.Peer()}
}

// origin is all neighbours of one place. What is scarce is shared between
// origins first and then between the neighbours of each: who has a thousand
// NodeIDs in one place has one share. Guarded by Relay.mu, but for turn.
type origin struct {
	members  map[*neighbour]struct{}
	circuits int
	opening  int

	turn []*neighbour // of those that wait for a worker, next one first; guarded by workers.mu
}

func (r *Relay) originLocked(at whence) *origin {
	o := r.origins[at]
	if o == nil {
		o = &origin{members: map[*neighbour]struct{}{}}
		r.origins[at] = o
	}
	return o
}

// crowdedLocked gives the origin that has most of what size counts, if that is
// more than another with mine and one: mine itself where no other has more.
func (r *Relay) crowdedLocked(mine *origin, size func(*origin) int) *origin {
	most := mine
	for _, o := range r.origins {
		if size(o) > size(most) {
			most = o
		}
	}
	if most != mine && size(most) <= size(mine)+1 {
		return nil
	}
	return most
}

// greediestLocked gives the neighbour that has most of what size counts in the
// origin that has most of it, of several the one that came last; nil if nb has
// hardly less. Who takes its place then has no more than it.
func (r *Relay) greediestLocked(nb *neighbour, in func(*origin) int, size func(*neighbour) int) *neighbour {
	o := r.crowdedLocked(nb.from, in)
	if o == nil {
		return nil
	}
	var most *neighbour
	for x := range o.members {
		if most == nil || size(x) > size(most) || size(x) == size(most) && x.since.After(most.since) {
			most = x
		}
	}
	if most == nil || size(most) == 0 || o == nb.from && size(most) <= size(nb)+1 {
		return nil
	}
	return most
}

// circuitVictimLocked gives the circuit that ends for a new one of nb when the
// relay has as many as it may: the newest of the neighbour that has most.
func (r *Relay) circuitVictimLocked(nb *neighbour) *circuit {
	most := r.greediestLocked(nb, func(o *origin) int { return o.circuits }, func(x *neighbour) int { return len(x.circuits) })
	if most == nil {
		return nil
	}
	return most.circuits[len(most.circuits)-1]
}

// openingVictimLocked is the same for half-open circuits: the oldest goes.
func (r *Relay) openingVictimLocked(nb *neighbour) *circuit {
	most := r.greediestLocked(nb, func(o *origin) int { return o.opening }, func(x *neighbour) int { return len(x.opening) })
	if most == nil {
		return nil
	}
	return most.opening[0]
}

// displaceLocked makes room in a full table of neighbours for one of another
// place, and gives the circuits that end with that: of the place that has most
// neighbours one without circuits goes, else the one that came last. So who
// has been there for long goes last. False if no place has two more than at.
func (r *Relay) displaceLocked(at whence) (ended []*circuit, ok bool) {
	mine := r.origins[at]
	if mine == nil {
		mine = &origin{}
	}
	o := r.crowdedLocked(mine, func(o *origin) int { return len(o.members) })
	if o == nil || o == mine {
		return nil, false
	}
	var last *neighbour
	for x := range o.members {
		switch {
		case last == nil, len(x.circuits) == 0 && len(last.circuits) > 0:
			last = x
		case (len(x.circuits) == 0) == (len(last.circuits) == 0) && x.since.After(last.since):
			last = x
		}
	}
	ended = slices.Clone(last.circuits)
	for _, c := range ended {
		r.uncountLocked(c)
	}
	r.forgetLocked(last)
	return ended, true
}

// forgetLocked drops the record of a neighbour that has no circuits.
func (r *Relay) forgetLocked(nb *neighbour) {
	delete(r.neighbours, nb.id)
	delete(nb.from.members, nb)
	if len(nb.from.members) == 0 {
		delete(r.origins, nb.at)
	}
}

// uncountLocked stops counting a circuit that is over or about to be.
func (r *Relay) uncountLocked(c *circuit) {
	r.openedLocked(c)
	if i := slices.Index(c.nb.circuits, c); i >= 0 {
		c.nb.circuits = slices.Delete(c.nb.circuits, i, i+1)
		c.nb.from.circuits--
		r.counted--
	}
}
