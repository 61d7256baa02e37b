package relay

import (
	"slices"
	"time"

	"wanderfs/relay/wire"
)

// pin is a second relay. Whoever is the second knows the entry. Paths are
// redrawn on the node's own clock and after failures that others may cause; if
// the second relay were fresh each time, an adversary with a share c of the
// relays would stand there soon. So four are pinned, each for the longer of
// two uniform draws from 1 to 12 days, as vanguards-lite does (Tor proposals
// 292 and 333, entrynodes.c).
//
// The node never contacts one because it is pinned: it must not learn from
// whom the entry passes things on.
type pin struct {
	Node  wire.NodeID
	Since time.Time
	Until time.Time
	// Passed says that a set-up got past it, or that a restart has forgotten
	// whether one did. Without it a failure there replaces it, see drawnInVain.
	Passed bool
}

// Passed notes that a set-up got past a second relay, however it ended.
func (c *Chooser) Passed(second wire.NodeID) {
	for _, s := range c.second {
		if s.Node == second {
			s.Passed = true
		}
	}
}

// drawnInVain reports whether another second relay may be drawn at once instead
// of s, because no set-up ever got past it and one has just failed there: who
// draws four that refuse would else have no paths until they count as dead. It
// is the entry that says so, and a lying one could go on until only its friends
// are left. So this is done as often a day as there are second relays, which to
// a liar is worth no more than that their time were over once.
func (c *Chooser) drawnInVain(f *Field, s *pin, now time.Time) bool {
	p := f.get(s.Node)
	if s.Passed || p == nil || !p.Failed && !p.Dead {
		return false
	}
	return c.early(now) < c.cfg.Second
}

// early counts the second relays that were replaced before their time within a
// day, on an entry's word.
func (c *Chooser) early(now time.Time) int {
	c.vain = slices.DeleteFunc(c.vain, func(t time.Time) bool { return now.Sub(t) >= day })
	return len(c.vain)
}

func (c *Chooser) isSecond(id wire.NodeID) bool {
	for _, s := range c.second {
		if s.Node == id {
			return true
		}
	}
	return false
}

// secondHop chooses among the pinned second relays that fit. Where the network
// has too few relays to fill the layer, an entry will do: that is pinned, too.
func (a *attempt) secondHop() *place {
	var fit []*place
	for _, s := range a.c.second {
		if p := a.f.get(s.Node); p != nil && a.fits(p) {
			fit = append(fit, p)
		}
	}
	if len(fit) > 0 {
		return fit[a.c.rnd.IntN(len(fit))]
	}
	if len(a.c.second) >= a.c.cfg.Second {
		return nil
	}
	return a.f.pick(a.c.rnd, func(p *place) bool { return a.fits(p) && a.c.isEntry(p.Node) })
}

// tendSecond replaces second relays whose time is over or who have gone, and
// those that were drawn in vain. Others that are down for a while keep their
// place as long as two others are up, and where twice as many as there are were
// replaced early in a day: it is the entry that says so each time, and one that
// lies of all but its friends would else have them in a few minutes. Where all
// are silent paths cannot wait for them to be lost: one is replaced at once,
// within the same limit.
func (c *Chooser) tendSecond(f *Field, now time.Time) {
	for i := 0; i < len(c.second); i++ {
		s := c.second[i]
		r := c.record(s.Node)
		gone := r != nil && (r.Down >= c.cfg.Gone || c.flaky(r))
		if c.isEntry(s.Node) || now.After(s.Until) || gone {
			c.replaceSecond(f, now, i)
		} else if c.drawnInVain(f, s, now) && c.replaceSecond(f, now, i) {
			c.vain = append(c.vain, now)
		}
	}
	for len(c.second) < c.cfg.Second {
		if !c.replaceSecond(f, now, len(c.second)) {
			break
		}
	}
	up, answering := 0, 0
	for _, s := range c.second {
		if !c.lost(f, s.Node) {
			up++
		}
		if !c.silent(f, s.Node) {
			answering++
		}
	}
	if answering == 0 && len(c.second) > 0 && c.early(now) < 2*c.cfg.Second && c.replaceSecond(f, now, 0) {
		c.vain = append(c.vain, now)
	}
	for i := 0; i < len(c.second) && up < min(2, c.cfg.Second); i++ {
		if c.lost(f, c.second[i].Node) && c.early(now) < 2*c.cfg.Second && c.replaceSecond(f, now, i) {
			c.vain = append(c.vain, now)
			up++
		}
	}
}

// replaceSecond draws the second relay i anew, or a further one; false when
// there is nobody.
func (c *Chooser) replaceSecond(f *Field, now time.Time, i int) bool {
	var others, entries []place
	for j, s := range c.second {
		if p := f.get(s.Node); p != nil && j != i {
			others = append(others, *p)
		}
	}
	for _, e := range c.active() {
		if p := f.get(e.Node); p != nil {
			entries = append(entries, *p)
		}
	}
	p := c.newSecond(f, others, entries)
	if p == nil {
		return false
	}
	s := &pin{Node: p.Node, Since: now, Until: now.Add(max(c.between(c.cfg.SecondFor), c.between(c.cfg.SecondFor)))}
	if i < len(c.second) {
		c.second[i] = s
	} else {
		c.second = append(c.second, s)
	}
	c.watch(p)
	c.pins++
	return true
}

// newSecond draws one of proven uptime that is no neighbour, else one of those
// seen for longest that is no neighbour, else any but an entry.
func (c *Chooser) newSecond(f *Field, others, entries []place) *place {
	well := func(p *place) bool {
		return !p.Dead && !p.Failed && !near(p, others) && !near(p, entries) && !c.isSecond(p.Node) && !c.isEntry(p.Node)
	}
	if p := f.pick(c.rnd, func(p *place) bool {
		r := c.record(p.Node)
		return r != nil && r.Until.IsZero() && c.proven(r) && well(p)
	}); p != nil {
		return p
	}
	longest := time.Duration(0)
	for _, r := range c.known {
		if p := f.get(r.Node); p != nil && r.Until.IsZero() && well(p) {
			longest = max(longest, r.Seen)
		}
	}
	if p := f.pick(c.rnd, func(p *place) bool {
		r := c.record(p.Node)
		return (r == nil && longest == 0 || r != nil && r.Until.IsZero() && r.Seen >= longest*9/10) && well(p)
	}); p != nil {
		return p
	}
	return f.pick(c.rnd, well)
}
