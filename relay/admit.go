package relay

import (
	"context"
	"errors"
	"slices"
	"time"
)

var errCrowded = errors.New("gave way to another neighbour's set-up")

// admit counts a new circuit, or refuses it with nil. The cheapest checks
// come first: nothing is read, and nothing computed, for a neighbour that is
// beyond its bucket.
func (r *Relay) admit(l Link) *circuit {
	r.mu.Lock()
	var nb *neighbour
	var victims []*circuit
	if !r.closed {
		nb, victims = r.neighbourLocked(l)
	}
	defer func() {
		for _, v := range victims {
			v.end(errCrowded)
		}
	}()
	if nb == nil || len(nb.circuits) >= r.limits.PerNeighbour || len(nb.opening) >= r.limits.HalfOpenPer || !nb.creates.Allow() {
		r.mu.Unlock()
		return nil
	}
	giveWay := func(v *circuit) bool {
		if v != nil {
			r.uncountLocked(v)
			victims = append(victims, v)
		}
		return v != nil
	}
	if r.opening >= r.limits.HalfOpen && !giveWay(r.openingVictimLocked(nb)) ||
		r.counted >= r.limits.Circuits && !giveWay(r.circuitVictimLocked(nb)) {
		r.mu.Unlock()
		return nil
	}
	c := &circuit{r: r, nb: nb, links: []Link{l}}
	for _, w := range [...]*moving{&c.toPrev, &c.toNext, &c.fromPrev, &c.fromNext} {
		w.c = c
	}
	nb.circuits, nb.opening = append(nb.circuits, c), append(nb.opening, c)
	nb.from.circuits++
	nb.from.opening++
	r.counted++
	r.opening++
	c.prev = stream{Link: l, idle: r.patience(r.limits.Idle), stall: r.patience(r.limits.Stall), pool: &r.pool, reads: &c.fromPrev, writes: &c.toPrev}
	c.ctx, c.cancel = context.WithCancel(r.ctx)
	r.circuits[c] = struct{}{}
	r.wg.Add(1)
	r.mu.Unlock()
	return c
}

// opened notes that a circuit is not half open any more: its first frame was
// answered, or it is over.
func (r *Relay) opened(c *circuit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.openedLocked(c)
}

func (r *Relay) openedLocked(c *circuit) {
	if i := slices.Index(c.nb.opening, c); i >= 0 {
		c.nb.opening = slices.Delete(c.nb.opening, i, i+1)
		c.nb.from.opening--
		r.opening--
	}
}

// dismiss forgets a circuit that is over.
func (r *Relay) dismiss(c *circuit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.uncountLocked(c)
	delete(r.circuits, c)
}

// mayDial counts an extension of a neighbour's circuit while it is under way;
// done ends it.
func (r *Relay) mayDial(nb *neighbour) (done func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dials >= r.limits.Dials || nb.dials >= r.limits.DialsPer {
		return nil, false
	}
	r.dials++
	nb.dials++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.dials--
		nb.dials--
	}, true
}

// compute runs a handshake of a neighbour's when its turn has come. The one
// before waits for half of SetUp until it is taken.
func (c *circuit) compute(work func() error) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.r.limits.SetUp/2)
	defer cancel()
	if err := c.r.workers.enter(ctx, c.nb); err != nil {
		return err
	}
	defer c.r.workers.leave()
	return work()
}

// hello is when a circuit's first frame must have come.
func (c *circuit) hello() time.Time { return time.Now().Add(c.r.limits.Hello) }
