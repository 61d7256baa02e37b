package view

import (
	"time"

	"wanderfs/relay/wire"
)

// A relay may give each node that asks another descriptor, with an onion key of
// its own for each: then it knows by the key of a set-up packet who built the
// path, wherever on it it stands; and in a group record its descriptor names the
// publisher. There is nobody here on whose word all nodes have the same list.
// Instead
//
//   - who talks to a relay tells others what it said (View.Sample), and the
//     newest descriptor is the one that is passed on, so that soon all have it;
//   - a node builds with a new one only after it has known it for AdoptAfter,
//     and with the one before until then. It is told to others meanwhile;
//   - where few relays are known, and so most of them may have started anew a
//     moment ago, nobody waits: there are few builders to tell apart;
//   - of whom more than MaxVersions are seen within VersionsFor, nothing is
//     believed for that long. An honest relay has one an hour, and one more each
//     time when it starts or its addresses change.
//
// All but VersionsFor are ours; any value works.
const (
	AdoptAfter  = 10 * time.Minute // see above
	MaxVersions = 12               // descriptors of a relay, see above
	VersionsFor = 2 * time.Hour    // wire.OnionLife: how long a descriptor is of use

	minSettled = 32          // relays with a descriptor known for so long; with fewer, new ones are used
	maxSplit   = 4096        // relays that signed too many, remembered
	nearEnd    = time.Minute // before its end a descriptor is not built with
)

// signed is one descriptor of a relay, and when it was seen first.
type signed struct {
	sig [16]byte
	at  time.Time
}

// replace takes a newer descriptor. Where the present one is new itself, the
// one before stays in use: else two in a row would get the second believed.
func (k *known) replace(d wire.Descriptor, now time.Time) {
	if k.before == nil || now.Sub(k.since) >= AdoptAfter {
		old := k.desc
		k.before = &old
	}
	k.desc, k.since = d, now
}

// signs takes down that the relay signed d, and returns how many descriptors it
// signed of late.
func (k *known) signs(d wire.Descriptor, now time.Time) int {
	sig := [16]byte(d.Sig[:])
	kept := k.versions[:0]
	found := false
	for _, s := range k.versions {
		if now.Sub(s.at) < VersionsFor {
			kept = append(kept, s)
			found = found || s.sig == sig
		}
	}
	if !found {
		kept = append(kept, signed{sig, now})
	}
	k.versions = kept
	return len(kept)
}

// splitLocked forgets a relay that signs too much, and remembers that.
func (v *View) splitLocked(k *known) {
	id := k.desc.Node
	usable := k.confirmed()
	v.dropLocked(id, k)
	if len(v.split) >= maxSplit {
		for old := range v.split { // any one
			delete(v.split, old)
			break
		}
	}
	v.split[id] = v.now().Add(VersionsFor)
	if usable {
		v.signalLocked()
	}
}

// Settled returns the descriptor of id to build paths with.
func (v *View) Settled(id wire.NodeID) (wire.Descriptor, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.relays[id]
	if k == nil {
		return wire.Descriptor{}, false
	}
	return v.settledLocked(k), true
}

func (v *View) settledLocked(k *known) wire.Descriptor {
	now := v.now()
	if k.waits(now) && v.crowdLocked(now) {
		return *k.before
	}
	return k.desc
}

// waits reports whether the descriptor before the newest is the one to use.
func (k *known) waits(now time.Time) bool {
	if k.before != nil && (now.Sub(k.since) >= AdoptAfter || !now.Add(nearEnd).Before(k.before.Expires)) {
		k.before = nil
	}
	return k.before != nil
}

// crowdLocked reports whether enough relays can be used without those that wait.
func (v *View) crowdLocked(now time.Time) bool {
	n := 0
	for _, k := range v.relays {
		if k.confirmed() && !k.waits(now) {
			if n++; n >= minSettled {
				return true
			}
		}
	}
	return false
}
