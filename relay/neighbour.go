package relay

import (
	"time"

	"golang.org/x/time/rate"

	"wanderfs/relay/wire"
)

// burstOf is how many seconds of a rate may come at once. ours; long enough
// for a node that starts and builds all its paths
const burstOf = 8

// neighbour is what one neighbour uses. Guarded by Relay.mu, but for the
// buckets, which have locks of their own, and waiting.
type neighbour struct {
	id       wire.NodeID
	at       whence
	from     *origin
	since    time.Time
	circuits []*circuit // oldest first
	dials    int        // extensions under way
	opening  []*circuit // whose first frame was not answered yet, oldest first

	creates *rate.Limiter // circuits
	opens   *rate.Limiter // JOINs
	queries *rate.Limiter // ASKs
	bytes   *rate.Limiter // of all its circuits

	waiting []chan struct{} // for a worker; guarded by workers.mu
}

// bucket gives a full bucket of burstOf seconds.
func bucket(r rate.Limit) *rate.Limiter {
	return rate.NewLimiter(r, max(1, int(min(burstOf*float64(r), 1<<30))))
}

// full tells whether a bucket is as good as new.
func full(l *rate.Limiter) bool { return l.Limit() == rate.Inf || l.Tokens() >= float64(l.Burst()) }

// idle tells whether nothing would be forgotten with the neighbour.
func (nb *neighbour) idle() bool {
	return len(nb.circuits) == 0 && full(nb.creates) && full(nb.opens) && full(nb.queries) && full(nb.bytes)
}

// neighbourLocked finds or makes the record of a neighbour, and gives the
// circuits that end for it; nil if there are too many neighbours and none has
// to make way.
func (r *Relay) neighbourLocked(link Link) (nb *neighbour, ended []*circuit) {
	id := link.Peer()
	if nb := r.neighbours[id]; nb != nil {
		return nb, nil
	}
	at := whenceOf(link)
	if len(r.neighbours) >= r.limits.Known && !r.makeRoomLocked(func() int { return len(r.neighbours) }) {
		var ok bool
		if ended, ok = r.displaceLocked(at); !ok {
			return nil, nil
		}
	}
	l := &r.limits
	burst := max(int(min(float64(l.Rate)/8, 1<<30)), 8*wire.FrameSize)
	nb = &neighbour{
		id: id, at: at, from: r.originLocked(at), since: time.Now(),
		creates: bucket(l.Creates), opens: bucket(l.Opens), queries: bucket(l.Queries),
		bytes: rate.NewLimiter(l.Rate, burst),
	}
	r.neighbours[id] = nb
	nb.from.members[nb] = struct{}{}
	return nb, ended
}

// mayExtend counts an extension to a target against its limit.
func (r *Relay) mayExtend(to wire.NodeID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.targets[to]
	if l == nil {
		if len(r.targets) >= r.limits.Known && !r.makeRoomLocked(func() int { return len(r.targets) }) {
			return false
		}
		l = bucket(r.limits.PerTarget)
		r.targets[to] = l
	}
	return l.Allow()
}

const (
	lookEvery   = time.Second // ours; any value works
	forgetEvery = 10          // looks; ours
)

// keepHouse forgets who has been idle and looks for stalled circuits, until
// the relay is closed.
func (r *Relay) keepHouse() {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for n := 1; ; n++ {
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
		}
		if n%forgetEvery == 0 {
			r.forgetIdle()
		}
	}
}

// forgetIdle drops the records that hold nothing. Nobody gets a fuller bucket
// by being forgotten.
func (r *Relay) forgetIdle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetIdleLocked()
}

// makeRoomLocked forgets who is idle before keepHouse does, where a table is
// full: NodeIDs cost nothing, and who names many would else have all others
// refused until then. It looks once a second, as each look costs something.
func (r *Relay) makeRoomLocked(held func() int) bool {
	if time.Since(r.swept) >= lookEvery {
		r.forgetIdleLocked()
	}
	return held() < r.limits.Known
}

func (r *Relay) forgetIdleLocked() {
	r.swept = time.Now()
	for _, nb := range r.neighbours {
		if nb.idle() {
			r.forgetLocked(nb)
		}
	}
	for id, l := range r.targets {
		if full(l) {
			delete(r.targets, id)
		}
	}
}
