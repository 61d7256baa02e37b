package relay

import (
	"time"

	"wanderfs/relay/wire"
)

// entry is a relay that is or was the first of this node's paths. It alone
// learns that this node takes part in anything, so what counts is how many
// there ever are: an adversary with a share c of them is met with probability
// 1-(1-c)^n. Hence
//
//   - two are pinned at a time, each for 60 to 120 days, and whichever fits is
//     used; a third and fourth only after these are lost;
//   - one of them is given up when its time is over, when it is down for a day
//     or less than half of the time, or when too many paths fail through it;
//   - at most four different ones are used in any 90 days. Where no more may
//     be drawn the node waits, and one whose time is over stays.
//
// Nothing that others ask of this node draws an entry: a gateway that lies
// near both of them is refused (ErrTooNear).
type entry struct {
	Node  wire.NodeID
	Since time.Time
	Until time.Time
	Used  time.Time // last
	Gone  bool      // given up for good; it is remembered for the count
	// Reached says that it may have learned something: a set-up got past it, or
	// would be forgotten about by a restart. One that is drawn and turns out to
	// be dead, or refuses, knows nothing: another is drawn at once instead, and
	// it does not count.
	Reached bool
	bias
}

func (c *Chooser) isEntry(id wire.NodeID) bool {
	for _, e := range c.entries {
		if e.Node == id && !e.Gone {
			return true
		}
	}
	return false
}

func (c *Chooser) wasEntry(id wire.NodeID) bool {
	for _, e := range c.entries {
		if e.Node == id {
			return true
		}
	}
	return false
}

// active gives the entries that may be used, in order of preference.
func (c *Chooser) active() []*entry {
	var out []*entry
	for _, e := range c.entries {
		if !e.Gone {
			out = append(out, e)
		}
	}
	return out
}

// Reached notes that a set-up got past an entry, however it ended.
func (c *Chooser) Reached(first wire.NodeID) {
	if e := c.activeEntry(first); e != nil {
		e.Reached = true // what is on disk counts as reached at any rate
	}
}

// room reports whether one more entry may be drawn.
func (c *Chooser) room(now time.Time) bool {
	n := 0
	for _, e := range c.entries {
		if now.Sub(e.Used) < c.cfg.Span {
			n++
		}
	}
	return n < c.cfg.EverUsed
}

// lost reports whether a pinned relay is known not to answer, by many failures
// or because nobody has heard of it for a while.
func (c *Chooser) lost(f *Field, id wire.NodeID) bool {
	if p := f.get(id); p != nil {
		return p.Dead
	}
	return c.online >= c.cfg.Absent
}

// silent reports whether a pinned relay does not answer now, be it for long or
// for a while. Where all entries are, paths cannot wait for them to be lost: a
// further one is drawn at once, within the cap, as Tor's guard-spec goes on to
// the next guard of its sample.
func (c *Chooser) silent(f *Field, id wire.NodeID) bool {
	p := f.get(id)
	return p != nil && p.Silent || c.lost(f, id)
}

// entries gives those that may be used now: of the reserve one, where none else
// fits what was chosen before.
func (a *attempt) entries() (fit []*place) {
	for i, e := range a.c.active() {
		p := a.f.get(e.Node)
		if p == nil || p.Dead || p.Failed && !a.needy {
			continue
		}
		if near(p, a.taken) {
			continue
		}
		if i >= a.c.cfg.Entries && len(fit) > 0 {
			break
		}
		fit = append(fit, p)
		if i >= a.c.cfg.Entries {
			break // of those in reserve the first
		}
	}
	return fit
}

// entry gives a pinned entry that fits.
func (a *attempt) entry() (*place, error) {
	fit := a.entries()
	if len(fit) == 0 {
		for _, e := range a.c.active() {
			if p := a.f.get(e.Node); p != nil && !p.Dead && (!p.Failed || a.needy) {
				return nil, ErrTooNear // to what was chosen before
			}
		}
		return nil, ErrEntriesDown
	}
	p := fit[a.c.rnd.IntN(len(fit))]
	a.c.activeEntry(p.Node).Used = a.now
	return p, nil
}

// tendEntries retires, replaces and draws entries where it is time.
func (c *Chooser) tendEntries(f *Field, now time.Time) {
	c.forgetEntries(now)
	c.dropUnreached(f)
	for i, e := range c.active() {
		if i >= c.cfg.Entries || !c.room(now) {
			break
		}
		r := c.record(e.Node)
		weak := r != nil && (c.flaky(r) || r.Down >= c.cfg.Gone)
		if over := now.After(e.Until); !over && !weak {
			continue
		}
		p := c.newEntry(f, true)
		if p == nil {
			continue
		}
		if now.After(e.Until) {
			e.Gone = true
		} else {
			c.toReserve(e)
		}
		c.pinEntry(p, now, i)
	}
	for len(c.active()) < c.cfg.Entries && c.room(now) {
		p := c.newEntry(f, false)
		if p == nil {
			return
		}
		c.pinEntry(p, now, len(c.entries))
	}
	for _, e := range c.active() {
		if !c.silent(f, e.Node) {
			return
		}
	}
	if c.room(now) {
		if p := c.newEntry(f, false); p != nil {
			c.pinEntry(p, now, 0)
		}
	}
}

// pinEntry puts p at place i among the active entries.
func (c *Chooser) pinEntry(p *place, now time.Time, i int) {
	c.watch(p)
	e := &entry{Node: p.Node, Since: now, Until: now.Add(c.between(c.cfg.EntryFor)), Used: now}
	list := c.active()
	i = min(i, len(list))
	list = append(list[:i:i], append([]*entry{e}, list[i:]...)...)
	for _, old := range c.entries {
		if old.Gone {
			list = append(list, old)
		}
	}
	c.entries = list
	c.pins++
}

// toReserve puts e behind the other active entries.
func (c *Chooser) toReserve(e *entry) {
	list := make([]*entry, 0, len(c.entries))
	for _, o := range c.entries {
		if o != e {
			list = append(list, o)
		}
	}
	c.entries = append(list, e)
	c.pins++
}

// dropUnreached forgets entries that were drawn in vain.
func (c *Chooser) dropUnreached(f *Field) {
	list := c.entries[:0:0]
	for _, e := range c.entries {
		if p := f.get(e.Node); p != nil && !e.Reached && !e.Gone && (p.Failed || p.Dead) {
			c.pins++
			continue
		}
		list = append(list, e)
	}
	c.entries = list
}

// forgetEntries gives up those in reserve whose time is over, unless they are
// needed because no other may be drawn, and forgets those given up when they
// count no more.
func (c *Chooser) forgetEntries(now time.Time) {
	list := make([]*entry, 0, len(c.entries))
	active := 0
	for _, e := range c.entries {
		reserve := !e.Gone && active >= c.cfg.Entries
		if !e.Gone {
			active++
		}
		if reserve && now.After(e.Until) && c.room(now) {
			e.Gone = true
			c.pins++
		}
		if e.Gone && now.Sub(e.Used) >= c.cfg.Span {
			c.pins++
			continue
		}
		list = append(list, e)
	}
	c.entries = list
}

// newEntry draws an entry among the neighbours that are up: one of proven
// uptime; else, unless proven is asked for, of those seen for longest. It lies
// in a neighbourhood of its own if there is one.
func (c *Chooser) newEntry(f *Field, proven bool) *place {
	var others []place
	for _, e := range c.active() {
		if p := f.get(e.Node); p != nil {
			others = append(others, *p)
		}
	}
	well := func(p *place) *sighting {
		r := c.record(p.Node)
		if r == nil || r.Until.IsZero() || !p.Met || p.Dead || p.Failed || c.wasEntry(p.Node) {
			return nil
		}
		return r
	}
	if p := f.pick(c.rnd, func(p *place) bool {
		r := well(p)
		return r != nil && c.proven(r) && !near(p, others)
	}); p != nil || proven {
		return p
	}
	longest := time.Duration(0)
	for i := range f.all {
		if r := well(&f.all[i]); r != nil && !near(&f.all[i], others) {
			longest = max(longest, r.Seen)
		}
	}
	if p := f.pick(c.rnd, func(p *place) bool {
		r := well(p)
		return r != nil && !near(p, others) && r.Seen >= longest*9/10
	}); p != nil {
		return p
	}
	return f.pick(c.rnd, func(p *place) bool { return well(p) != nil })
}
