package node

import (
	"math/rand/v2"
	"time"
)

// maxDrain bounds how long a session may be used beyond its successor's
// beginning; ours.
const maxDrain = 15 * time.Minute

// lifetime is when a session begins and ends. All of it is random, so that two
// sessions of one node do not show by their times that they belong together,
// and the end of one does not show which of those that begin succeeds it:
//
//	born ------ 0.5 to 1.5 of the mean ------ expires -- drain -- over
//	                            | successor, at 85 to 95 % of it
type lifetime struct {
	born      time.Time
	successor time.Time     // when the next session is built
	expires   time.Time     // the next one has taken over by then
	drain     time.Duration // how long it is used after that, at most a quarter of its life
}

func newLifetime(now time.Time, mean time.Duration) lifetime {
	life := mean/2 + rand.N(mean)
	quarter := min(life/4, maxDrain)
	return lifetime{
		born:      now,
		successor: now.Add(life*85/100 + rand.N(life/10+1)),
		expires:   now.Add(life),
		drain:     quarter*3/4 + rand.N(quarter/4+1),
	}
}

// over is when the session ends at the latest, with a successor or without.
func (l lifetime) over() time.Time { return l.expires.Add(l.drain) }
