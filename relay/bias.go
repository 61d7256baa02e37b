package relay

import "wanderfs/relay/wire"

// bias counts how the paths through an entry did. An entry that lets only
// those paths live whose other end its friends hold fails all others: it shows
// as a low share of successes. The figures are those of Tor's path-spec §7
// (proposal 209): judged after 150 builds or 20 uses, bad below 30 % of builds
// or 60 % of uses, counts halved at 300 and 100 so that they stay bounded and
// the past fades.
//
// Only paths of relays that this node chose itself are counted, and only from
// the second hop on: a gateway that somebody else names may fail on purpose,
// and an entry that cannot be dialled has merely gone. Nor is an entry blamed
// where the paths through the others do as badly: then the fault lies further
// on, with the network or with somebody who clogs the second relays.
type bias struct {
	Tries, Built float64 // set-ups that got past the entry, and those that ended well
	Uses, Served float64 // paths that were used, and those on which an answer came
}

// Figures of Tor's path-spec §7.
const (
	minBuilds   = 150
	badBuilds   = 0.30
	scaleBuilds = 300
	minUses     = 20
	badUses     = 0.60
	scaleUses   = 100
)

// Built notes how the set-up of a path through an entry ended, once it had got
// past the entry.
func (c *Chooser) Built(first wire.NodeID, ok bool) {
	e := c.activeEntry(first)
	if e == nil {
		return
	}
	e.Reached = true
	count(&e.Tries, &e.Built, ok, scaleBuilds)
	if e.Tries >= minBuilds && e.Built < badBuilds*e.Tries &&
		!c.allAsBad(e, func(b *bias) (float64, float64) { return b.Tries, b.Built }, minBuilds, badBuilds) {
		c.drop(e)
	}
}

// Served notes whether anything came back over a path through an entry that
// was built and used.
func (c *Chooser) Served(first wire.NodeID, ok bool) {
	e := c.activeEntry(first)
	if e == nil {
		return
	}
	count(&e.Uses, &e.Served, ok, scaleUses)
	if e.Uses >= minUses && e.Served < badUses*e.Uses &&
		!c.allAsBad(e, func(b *bias) (float64, float64) { return b.Uses, b.Served }, minUses, badUses) {
		c.drop(e)
	}
}

func count(tries, good *float64, ok bool, scale float64) {
	if *tries >= scale {
		*tries, *good = *tries/2, *good/2
	}
	*tries++
	if ok {
		*good++
	}
}

// allAsBad reports whether there are other entries to compare e with and none
// of them does better. A quarter of the tries is enough to compare.
func (c *Chooser) allAsBad(e *entry, of func(*bias) (float64, float64), least, bad float64) bool {
	compared := false
	for _, o := range c.active() {
		tries, good := of(&o.bias)
		if o == e || tries < least/4 {
			continue
		}
		compared = true
		if good >= bad*tries {
			return false
		}
	}
	return compared
}

// drop gives an entry up for good. It counts towards what is ever used.
func (c *Chooser) drop(e *entry) {
	e.Gone = true
	c.pins++
}

func (c *Chooser) activeEntry(id wire.NodeID) *entry {
	for _, e := range c.entries {
		if e.Node == id && !e.Gone {
			return e
		}
	}
	return nil
}
