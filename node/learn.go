package node

import (
	"bytes"
	"net/netip"
	"slices"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// source is a peer that tells of relays, and where it speaks from.
type source struct {
	node wire.NodeID
	hood relay.Hood
}

// sourceAt gives the source for a peer that is connected from an address.
func sourceAt(id wire.NodeID, from netip.AddrPort) source {
	if !from.IsValid() || from.Addr().IsLoopback() {
		return source{id, relay.Hood{Node: id}}
	}
	return source{id, relay.Hood{Net: neighbourhood(from)}}
}

// add learns d from a peer, wherever that is; see learn.
func (v *view) add(d wire.Descriptor, from wire.NodeID) (met, visit bool) {
	return v.learn(d, source{from, relay.Hood{Node: from}})
}

// learn learns d from a peer. It returns whether d was new and came from the
// relay itself (met), and whether the relay is known but has not been met yet,
// so that a visit would tell more (visit). Invalid descriptors are dropped.
//
// Descriptors cost nothing to make, with any address in them. So a relay that
// was not met counts only when two peers of different neighbourhoods vouch for
// it; all peers of one neighbourhood together vouch for maxPerVoucher relays
// at most; and where the view is full those go first whose vouchers vouch for
// most.
func (v *view) learn(d wire.Descriptor, from source) (met, visit bool) {
	dialable := v.policy.dialable(d)
	if d.Node == v.self || d.Node.IsZero() || len(dialable) == 0 || len(oneHome(dialable)) < len(dialable) {
		return false, false
	}
	v.mu.Lock()
	k := v.relays[d.Node]
	same := k != nil && sameBytes(k.desc, d)
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
	direct := d.Node == from.node
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
	if k.signs(d, v.now()) > maxVersions {
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

// sameBytes reports whether two signed records are the same in every bit, so
// that what holds for the signature of the one holds for the other.
func sameBytes(a, b interface {
	AppendBinary([]byte) ([]byte, error)
}) bool {
	x, errX := a.AppendBinary(nil)
	y, errY := b.AppendBinary(nil)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func (k *known) confirmed() bool {
	return !k.taken && (k.met || len(k.vouchers) >= needVouchers)
}

// takenBack notes that id, asked itself, has no descriptor: nobody can dial it
// any more, or it relays no more. Else it would pass for well wherever it is
// connected to, and be told to those who dial it in vain.
func (v *view) takenBack(id wire.NodeID) {
	v.takeBack(id, func(*known) bool { return true })
}

// outdated notes that id signed, later than what is known, a descriptor
// without addresses.
func (v *view) outdated(d wire.Descriptor) {
	v.takeBack(d.Node, func(k *known) bool { return d.Issued.After(k.desc.Issued) })
}

func (v *view) takeBack(id wire.NodeID, cond func(*known) bool) {
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
func (v *view) vouchLocked(k *known, h relay.Hood) {
	if len(k.vouchers) < needVouchers && !slices.Contains(k.vouchers, h) && v.charged[h] < maxPerVoucher {
		k.vouchers = append(k.vouchers, h)
		v.charged[h]++
	}
}

func (v *view) unvouchLocked(k *known) {
	for _, h := range k.vouchers {
		if v.charged[h]--; v.charged[h] <= 0 {
			delete(v.charged, h)
		}
	}
	k.vouchers = nil
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

func (v *view) dropLocked(id wire.NodeID, k *known) {
	v.unvouchLocked(k)
	v.countLocked(k.desc, -1)
	delete(v.relays, id)
	v.dirty = true
}
