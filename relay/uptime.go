package relay

import (
	"net/netip"
	"slices"
	"time"

	"wanderfs/relay/wire"
)

// sighting is what the node has seen of one relay over the weeks: Seen of
// Watched it was up. Both are the node's own time on line; what happens while
// it is off is not known and does not count.
//
// Of those that are watched, about eight are neighbours: the node stays
// connected to them. Entries are drawn among these. A node that begins knows
// nothing of anybody's uptime and pins two neighbours at random; as they turn
// out to be up less than half of the time, they give way to proven ones, which
// counts towards the limit of what is ever used.
type sighting struct {
	Node    wire.NodeID
	Addrs   []netip.AddrPort // where it was last known
	Watched time.Duration
	Seen    time.Duration
	Down    time.Duration // without a break, of Watched
	Until   time.Time     // a neighbour until then; zero: none
}

// windowOf bounds Watched: above it both counts are halved, so that the past
// weighs less and less.
const windowOf = 14 * day

// proven reports whether the relay was up for at least half of the time.
func (c *Chooser) proven(r *sighting) bool {
	return r.Watched >= c.cfg.Prove && 2*r.Seen >= r.Watched
}

// flaky reports whether the relay was watched for long enough and is not
// proven.
func (c *Chooser) flaky(r *sighting) bool {
	return r.Watched >= c.cfg.Prove && 2*r.Seen < r.Watched
}

func (c *Chooser) record(id wire.NodeID) *sighting { return c.byNode[id] }

// Watch takes down who was up during the time that has passed since the last
// call, and replaces whom it is time to replace. It is to be called once a
// minute or so while the node runs. Time in which nobody was up does not
// count: it says more about the own connection.
func (c *Chooser) Watch(f *Field, passed time.Duration) {
	now := c.cfg.Now()
	if f.ups == 0 || passed <= 0 {
		return
	}
	c.online += passed
	for _, r := range c.known {
		r.Watched += passed
		p := f.get(r.Node)
		if p != nil {
			r.Addrs = p.Addrs
		}
		if p != nil && p.Up && !p.Dead && !p.Failed {
			r.Seen += passed
			r.Down = 0
		} else {
			r.Down += passed
		}
		if r.Watched > windowOf {
			r.Watched, r.Seen = r.Watched/2, r.Seen/2
		}
	}
	c.tendWatched(f)
	c.tendNeighbours(f, now)
	if c.settled(f, now) && len(c.entries) > 0 {
		c.tendEntries(f, now)
		c.tendSecond(f, now)
	}
}

// tendWatched forgets whom it is no use to watch any longer, and takes others
// instead, one of a neighbourhood.
func (c *Chooser) tendWatched(f *Field) {
	kept := c.known[:0]
	around := make(map[Hood]bool)
	add := func(p *place) {
		for _, h := range p.hoods {
			around[h] = true
		}
	}
	for _, r := range c.known {
		if r.Until.IsZero() && !c.isEntry(r.Node) && !c.isSecond(r.Node) && (c.flaky(r) || r.Down >= c.cfg.Gone) {
			delete(c.byNode, r.Node)
			continue
		}
		kept = append(kept, r)
		if p := f.get(r.Node); p != nil {
			add(p)
		}
	}
	clear(c.known[len(kept):])
	c.known = kept
	for len(c.known) < c.cfg.Watched {
		p := f.pick(c.rnd, func(p *place) bool {
			return p.Up && !p.Dead && !p.Failed && c.record(p.Node) == nil && !slices.ContainsFunc(p.hoods, func(h Hood) bool { return around[h] })
		})
		if p == nil {
			return
		}
		c.watch(p)
		add(p)
	}
}

// watch begins to watch p, if it is not watched yet.
func (c *Chooser) watch(p *place) *sighting {
	if r := c.record(p.Node); r != nil {
		r.Addrs = p.Addrs
		return r
	}
	r := &sighting{Node: p.Node, Addrs: p.Addrs}
	c.known = append(c.known, r)
	c.byNode[p.Node] = r
	return r
}

// tendNeighbours ends neighbours whose time is over, who have gone or are
// flaky, where others can take their place, and fills up.
func (c *Chooser) tendNeighbours(f *Field, now time.Time) {
	count := 0
	var around []place
	for _, r := range c.known {
		if r.Until.IsZero() {
			continue
		}
		if over := now.After(r.Until) || c.flaky(r) || r.Down >= c.cfg.Gone; over && !c.isEntry(r.Node) {
			r.Until = time.Time{}
			continue
		}
		count++
		if p := f.get(r.Node); p != nil {
			around = append(around, *p)
		}
	}
	for ; count < c.cfg.Neighbours; count++ {
		p := c.newNeighbour(f, around)
		if p == nil {
			return
		}
		c.watch(p).Until = now.Add(c.between(c.cfg.NeighbourFor))
		around = append(around, *p)
	}
}

// newNeighbour chooses one of proven uptime, else one that is watched, else
// anybody; of those that this node has talked to.
func (c *Chooser) newNeighbour(f *Field, around []place) *place {
	well := func(p *place) bool {
		return p.Met && !p.Dead && !p.Failed && !near(p, around)
	}
	if p := f.pick(c.rnd, func(p *place) bool {
		r := c.record(p.Node)
		return r != nil && well(p) && c.proven(r)
	}); p != nil {
		return p
	}
	return f.pick(c.rnd, func(p *place) bool {
		r := c.record(p.Node)
		return well(p) && (r == nil || !c.flaky(r))
	})
}
