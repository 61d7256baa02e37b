package relay

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"

	"wanderfs/relay/wire"
)

// Hood is what one party is likely to hold as a whole: the /16 of an IPv4
// address, the /32 of an IPv6 address. A relay on loopback, where a laboratory
// runs many, is a hood of its own.
type Hood struct {
	Net  netip.Prefix
	Node wire.NodeID // of a relay on loopback, else zero
}

// Neighbourhood gives the /16 or /32 that an address lies in.
func Neighbourhood(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap()
	bits := 16
	if ip.Is6() {
		bits = 32
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Candidate is what a node knows, from its own view, of a relay that it might
// choose. Nothing in it rests on the relay's word but Addrs and Super, which
// it has signed.
type Candidate struct {
	Node   wire.NodeID
	Addrs  []netip.AddrPort // those that may be dialled; at least one
	Super  bool
	Met    bool    // this node has talked to it
	Up     bool    // a sign of life is fresh: a new descriptor or an answer
	Stale  bool    // nothing fresh is known of it by visits and what others tell: see Chooser.Stale
	Failed bool    // failed lately: chosen only where the others do not suffice
	Silent bool    // failed, and again after others had answered: it is not this node that is cut off
	Dead   bool    // failed many times in a row: not chosen
	Rate   float64 // bytes a second that this node has measured through it; 0: not measured
}

// Hoods gives the neighbourhoods that the relay lies in: one of IPv4, one of
// IPv6, or both.
func (c *Candidate) Hoods() []Hood {
	out := make([]Hood, 0, 2)
	for _, a := range c.Addrs {
		h := Hood{Net: Neighbourhood(a.Addr())}
		if a.Addr().IsLoopback() {
			h = Hood{Node: c.Node}
		}
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}

// A neighbourhood weighs 1, however many relays it has: who runs a thousand in
// one place is chosen as often as who runs one. What was measured moves that
// by a factor of 2 at most, either way, so that speed buys little, too.
const (
	minWeight = 0.5
	maxWeight = 2
)

// Field is a set of candidates to choose from, by neighbourhood. It does not
// change once made, and is safe for concurrent use.
type Field struct {
	all   []place
	byID  map[wire.NodeID]int
	hoods []area
	sums  []float64 // of the hoods' weights, up to and with each
	ups   int
}

// place is a candidate with what is derived from it.
type place struct {
	Candidate
	hoods  []Hood
	weight float64
}

// area is a neighbourhood: candidates that name it first.
type area struct{ members []int }

// NewField makes a field. Candidates without an address, and all but the first
// of one name, are left out.
func NewField(cs []Candidate) *Field {
	f := &Field{byID: make(map[wire.NodeID]int, len(cs))}
	index := make(map[Hood]int)
	for _, c := range cs {
		if _, twice := f.byID[c.Node]; twice || len(c.Addrs) == 0 || c.Node.IsZero() {
			continue
		}
		p := place{Candidate: c, hoods: c.Hoods(), weight: 1}
		i := len(f.all)
		f.all = append(f.all, p)
		f.byID[c.Node] = i
		if p.Up && !p.Dead {
			f.ups++
		}
		h, ok := index[p.hoods[0]]
		if !ok {
			h = len(f.hoods)
			index[p.hoods[0]] = h
			f.hoods = append(f.hoods, area{})
		}
		f.hoods[h].members = append(f.hoods[h].members, i)
	}
	f.weigh()
	return f
}

// weigh sets the weights by what was measured, against the median of the
// neighbourhoods: many relays in one place do not move that either.
func (f *Field) weigh() {
	var rates []float64
	for _, a := range f.hoods {
		best := 0.0
		for _, i := range a.members {
			best = max(best, f.all[i].Rate)
		}
		if best > 0 {
			rates = append(rates, best)
		}
	}
	slices.Sort(rates)
	sum := 0.0
	for _, a := range f.hoods {
		best := 0.0
		for _, i := range a.members {
			p := &f.all[i]
			if p.Rate > 0 {
				p.weight = min(max(p.Rate/rates[len(rates)/2], minWeight), maxWeight)
			}
			best = max(best, p.weight)
		}
		sum += best
		f.sums = append(f.sums, sum)
	}
}

func (f *Field) get(id wire.NodeID) *place {
	if i, ok := f.byID[id]; ok {
		return &f.all[i]
	}
	return nil
}

// pick chooses a neighbourhood by weight and then one of its candidates that
// fit; nil when there is none.
func (f *Field) pick(r *rand.Rand, fits func(*place) bool) *place {
	if len(f.hoods) == 0 {
		return nil
	}
	// Drawing again where nobody fits gives the same odds as leaving such
	// neighbourhoods out, and mostly costs less.
	for range 16 {
		x := r.Float64() * f.sums[len(f.sums)-1]
		h := min(sort.SearchFloat64s(f.sums, x), len(f.hoods)-1)
		if p := f.within(r, h, fits); p != nil {
			return p
		}
	}
	var left []int
	sum, sums := 0.0, []float64(nil)
	before := 0.0
	for h, a := range f.hoods {
		if slices.ContainsFunc(a.members, func(i int) bool { return fits(&f.all[i]) }) {
			sum += f.sums[h] - before
			left, sums = append(left, h), append(sums, sum)
		}
		before = f.sums[h]
	}
	if len(left) == 0 {
		return nil
	}
	return f.within(r, left[min(sort.SearchFloat64s(sums, r.Float64()*sum), len(left)-1)], fits)
}

// pickEven chooses a neighbourhood and then one of its candidates that fit,
// whatever was measured of them; nil when there is none.
func (f *Field) pickEven(r *rand.Rand, fits func(*place) bool) *place {
	var chosen *place
	hoods := 0
	for _, a := range f.hoods {
		var here *place
		members := 0
		for _, i := range a.members {
			if p := &f.all[i]; fits(p) {
				if members++; r.IntN(members) == 0 { // each with the same odds
					here = p
				}
			}
		}
		if here != nil {
			if hoods++; r.IntN(hoods) == 0 {
				chosen = here
			}
		}
	}
	return chosen
}

// within chooses a fitting member of a neighbourhood by weight.
func (f *Field) within(r *rand.Rand, hood int, fits func(*place) bool) *place {
	var chosen *place
	sum := 0.0
	for _, i := range f.hoods[hood].members {
		if p := &f.all[i]; fits(p) {
			sum += p.weight
			if r.Float64()*sum < p.weight { // each stays with its share of the sum
				chosen = p
			}
		}
	}
	return chosen
}

// count counts the neighbourhoods in which somebody fits.
func (f *Field) count(fits func(*place) bool) int {
	n := 0
	for _, a := range f.hoods {
		if slices.ContainsFunc(a.members, func(i int) bool { return fits(&f.all[i]) }) {
			n++
		}
	}
	return n
}
