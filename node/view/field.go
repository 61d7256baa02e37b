package view

import (
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// Candidate gives a descriptor as the policy of choice sees it; false when it
// has no address that may be dialled.
func (v *View) Candidate(d wire.Descriptor) (relay.Candidate, bool) {
	c := relay.Candidate{Node: d.Node, Addrs: v.policy.Dialable(d), Super: d.Super()}
	return c, len(c.Addrs) > 0
}

// Field gives the confirmed relays to choose from, as they are now.
func (v *View) Field() *relay.Field { return relay.NewField(v.Candidates()) }

func (v *View) Candidates() []relay.Candidate {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	out := make([]relay.Candidate, 0, len(v.relays))
	for id, k := range v.relays {
		if !k.confirmed() || id == v.self || !now.Before(k.desc.Expires) {
			continue
		}
		c, ok := v.Candidate(k.desc)
		if !ok {
			continue
		}
		c.Met, c.Rate = k.met, k.rate
		c.Up = k.own.fails == 0 && (now.Sub(k.desc.Issued) < FreshFor || now.Sub(k.answered) < FreshFor)
		c.Stale = now.Sub(k.desc.Issued) >= FreshFor && now.Sub(k.visited) >= FreshFor && !k.visits.dead()
		c.Failed, c.Silent, c.Dead = k.own.rests(now), k.own.fails >= silentAfter, k.own.dead()
		out = append(out, c)
	}
	return out
}

// Carried notes that a path through the relays ran at a rate, in bytes a
// second. Each of them can do at least that; what was seen before fades slowly,
// since one slow relay holds up all others of a path.
func (v *View) Carried(ids []wire.NodeID, rate float64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range ids {
		if k := v.relays[id]; k != nil {
			k.rate = max(rate, k.rate*0.98)
		}
	}
}
