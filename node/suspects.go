package node

import (
	"slices"
	"time"

	"wanderfs/relay/wire"
)

// suspectFor is how long a path that has fallen counts against its relays:
// until a set-up over the one that is silent has failed, and has named it. Ours;
// any value works.
const suspectFor = 10 * time.Second

// suspects holds which relays were on paths of this node's own that have fallen
// of late. Nothing tells which of a path's relays it was, and a new set-up over
// a silent one takes seconds to fail. But a relay that was on two of them is
// the likely one, and one that was on none is not.
//
// By this alone no relay is replaced or blamed: it only says which of those
// that were chosen are tried first. So who fails paths on purpose gains the
// order in which a node uses what it has, and no other relay.
type suspects struct {
	falls map[wire.NodeID][]time.Time
}

// fell notes that a path over hops has ended by itself.
func (s *suspects) fell(hops []wire.Descriptor, now time.Time) {
	for id, falls := range s.falls {
		recent := falls[len(falls)-s.of(id, now):]
		if len(recent) == 0 {
			delete(s.falls, id)
			continue
		}
		s.falls[id] = slices.Clone(recent)
	}
	if s.falls == nil {
		s.falls = make(map[wire.NodeID][]time.Time)
	}
	for _, h := range hops {
		s.falls[h.Node] = append(s.falls[h.Node], now)
	}
}

// passed notes that a path was built over hops.
func (s *suspects) passed(hops []wire.Descriptor) {
	for _, h := range hops {
		delete(s.falls, h.Node)
	}
}

// of counts the paths that fell over id and were not cleared up since.
func (s *suspects) of(id wire.NodeID, now time.Time) (n int) {
	for _, at := range s.falls[id] {
		if now.Sub(at) < suspectFor {
			n++
		}
	}
	return n
}
