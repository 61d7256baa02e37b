package index

import (
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// recentWalks remembers which walking queries came by, in memory of a fixed
// size: the oldest make room. A query that is forgotten too early is bounded by
// its coins all the same. Safe for concurrent use.
type recentWalks struct {
	keep time.Duration

	mu   sync.Mutex
	seen map[walkID]time.Time // guarded by mu
	ring []walkID             // in the order of coming; guarded by mu
	next int                  // the oldest of a full ring; guarded by mu
}

func newRecentWalks(n int, keep time.Duration) *recentWalks {
	return &recentWalks{keep: keep, seen: make(map[walkID]time.Time), ring: make([]walkID, 0, n)}
}

// first notes id and reports whether it is new here.
func (r *recentWalks) first(id walkID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.seen[id]; ok && now.Sub(at) < r.keep {
		return false
	} else if ok { // its place in the ring stays
		r.seen[id] = now
		return true
	}
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, id)
	} else {
		delete(r.seen, r.ring[r.next])
		r.ring[r.next] = id
		r.next = (r.next + 1) % len(r.ring)
	}
	r.seen[id] = now
	return true
}

// Share is what one neighbour may use: a token bucket.
type Share struct {
	PerSecond float64
	Burst     int
}

func (s Share) or(def Share) Share {
	if s.PerSecond <= 0 || s.Burst <= 0 {
		return def
	}
	return s
}

// maxShares is of how many neighbours the use is remembered; ours.
const maxShares = 4096

// shares are the buckets of all neighbours. Safe for concurrent use.
type shares struct {
	share Share

	mu   sync.Mutex
	used map[wire.NodeID]*usage // guarded by mu
}

// usage is what a neighbour has used and not been given back yet.
type usage struct {
	n  float64
	at time.Time
}

func newShares(s Share) *shares { return &shares{share: s, used: make(map[wire.NodeID]*usage)} }

// take uses up n of a neighbour's share, all or nothing.
func (s *shares) take(who wire.NodeID, n int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.used[who]
	if u == nil {
		s.makeRoomLocked(now)
		u = &usage{at: now}
		s.used[who] = u
	}
	u.n = s.left(u, now)
	u.at = now
	if u.n+float64(n) > float64(s.share.Burst) {
		return false
	}
	u.n += float64(n)
	return true
}

// left is what is still counted as used.
func (s *shares) left(u *usage, now time.Time) float64 {
	return max(0, u.n-max(0, now.Sub(u.at).Seconds())*s.share.PerSecond)
}

// makeRoomLocked forgets neighbours that have their whole share again, or any
// one if there are none: NodeIDs cost something to be connected with.
func (s *shares) makeRoomLocked(now time.Time) {
	if len(s.used) < maxShares {
		return
	}
	for id, u := range s.used {
		if s.left(u, now) == 0 {
			delete(s.used, id)
		}
	}
	for id := range s.used {
		if len(s.used) < maxShares {
			return
		}
		delete(s.used, id)
	}
}
