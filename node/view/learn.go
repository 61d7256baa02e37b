package view

import (
	"net/netip"
	"slices"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// Source is a peer that tells of relays, and where it speaks from.
type Source struct {
	Node wire.NodeID
	hood relay.Hood
}

// SourceAt gives the source for a peer that is connected from an address.
func SourceAt(id wire.NodeID, from netip.AddrPort) Source {
	if !from.IsValid() || from.Addr().IsLoopback() {
		return Source{id, relay.Hood{Node: id}}
	}
	return Source{id, relay.Hood{Net: relay.Neighbourhood(from.Addr())}}
}

// Add learns d from a peer, wherever that is; see Learn.
func (v *View) Add(d wire.Descriptor, from wire.NodeID) (met, visit bool) {
	return v.Learn(d, Source{from, relay.Hood{Node: from}})
}

// Learn learns d from a peer. It returns whether d was new and came from the
// relay itself (met), and whether the relay is known but has not been met yet,
// so that a visit would tell more (visit). Invalid descriptors are dropped.
//
// Descriptors cost nothing to make, with any address in them. So a relay that
// was not met counts only when two peers of different neighbourhoods vouch for
// it; all peers of one neighbourhood together vouch for maxPerVoucher relays
// at most; and where the view is full those go first whose vouchers vouch for
// most.
func (v *View) Learn(d wire.Descriptor, from Source) (met, visit bool) {
	if d.Node == v.self || d.Node.IsZero() || !v.policy.Accepts(d) {
		return false, false
	}
	v.mu.Lock()
	k := v.relays[d.Node]
	same := k != nil && wire.Same(k.desc, d)
	split := v.now().Before(v.split[d.Node])
	v.mu.Unlock()
	if split {
		return false, false
	}
	if !same && d.Verify(v.network, v.now()) != nil { // outside the lock: 0.1 ms
		return false, false
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	direct := d.Node == from.Node
	k = v.relays[d.Node]
	if k == nil {
		if !direct && v.charged[from.hood] >= maxPerVoucher || !v.roomLocked(d, direct) {
			return false, false
		}
		k = &known{desc: d, since: v.now()}
		v.relays[d.Node] = k
		v.countLocked(d, 1)
	} else if d.Issued.After(k.desc.Issued) {
		v.countLocked(k.desc, -1)
		v.countLocked(d, 1)
		k.replace(d, v.now())
		k.taken = false
	}
	if k.signs(d, v.now()) > MaxVersions {
		v.splitLocked(k)
		return false, false
	}
	before := k.confirmed()
	wasMet := k.met
	if direct {
		k.met, k.taken = true, false
		v.unvouchLocked(k)
		back := false
		for _, h := range []*health{&k.own, &k.visits, &k.asked} {
			if h.dead() {
				back = h.recover()
			}
		}
		if back {
			v.signalLocked()
		}
	} else if !k.met {
		v.vouchLocked(k, from.hood)
	}
	v.dirty = true
	if k.confirmed() && !before {
		v.signalLocked()
	}
	return direct && !wasMet, !k.met && !k.visits.rests(v.now())
}

func (k *known) confirmed() bool {
	return !k.taken && (k.met || len(k.vouchers) >= needVouchers)
}

// TakenBack notes that id, asked itself, has no descriptor: nobody can dial it
// any more, or it relays no more. Else it would pass for well wherever it is
// connected to, and be told to those who dial it in vain.
func (v *View) TakenBack(id wire.NodeID) {
	v.takeBack(id, func(*known) bool { return true })
}

// Outdated notes that id signed, later than what is known, a descriptor
// without addresses.
func (v *View) Outdated(d wire.Descriptor) {
	v.takeBack(d.Node, func(k *known) bool { return d.Issued.After(k.desc.Issued) })
}

func (v *View) takeBack(id wire.NodeID, cond func(*known) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil || k.taken || !cond(k) {
		return
	}
	usable := k.confirmed()
	k.taken = true
	if usable {
		v.signalLocked()
	}
}

// vouchLocked takes down who vouches for k, where that is needed and allowed.
func (v *View) vouchLocked(k *known, h relay.Hood) {
	if len(k.vouchers) < needVouchers && !slices.Contains(k.vouchers, h) && v.charged[h] < maxPerVoucher {
		k.vouchers = append(k.vouchers, h)
		v.charged[h]++
	}
}

func (v *View) unvouchLocked(k *known) {
	for _, h := range k.vouchers {
		if v.charged[h]--; v.charged[h] <= 0 {
			delete(v.charged, h)
		}
	}
	k.vouchers = nil
}

func (v *View) countLocked(d wire.Descriptor, n int) {
	for _, a := range v.policy.Dialable(d) {
		if a.Addr().IsLoopback() {
			continue
		}
		h := relay.Neighbourhood(a.Addr())
		if v.hoods[h] += n; v.hoods[h] <= 0 {
			delete(v.hoods, h)
		}
	}
}

// roomLocked makes room for d or refuses it. Who was met pushes out who was
// only told of, never the other way round.
func (v *View) roomLocked(d wire.Descriptor, direct bool) bool {
	for _, a := range v.policy.Dialable(d) {
		if !a.Addr().IsLoopback() && v.hoods[relay.Neighbourhood(a.Addr())] >= maxPerHood {
			return false
		}
	}
	if len(v.relays) < maxView {
		return true
	}
	var victim *known
	most, looked := 0, 0
	for _, k := range v.relays { // map order is random enough for a victim
		if !k.confirmed() || direct && !k.met {
			for _, h := range k.vouchers {
				if n := v.charged[h]; n > most {
					most, victim = n, k
				}
			}
			if looked++; looked == 64 {
				break
			}
		}
	}
	if victim != nil {
		v.dropLocked(victim.desc.Node, victim)
	}
	return victim != nil
}

func (v *View) dropLocked(id wire.NodeID, k *known) {
	v.unvouchLocked(k)
	v.countLocked(k.desc, -1)
	delete(v.relays, id)
	v.dirty = true
}
