package node

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/relay/wire"
)

// All are ours; any value works.
const (
	pinnedHops = 2                // the first relays of a path; they come from sets that are pinned
	legStrikes = 3                // paths over one leg that ended by themselves, in a row, until its last relay is blamed
	legDraws   = 8                // choices made for one that fits
	legsIdle   = 10 * time.Minute // a task's legs are forgotten when nobody has used them for so long
	maxLegs    = 256              // tasks whose legs are remembered; more only while they are in use or were a moment ago
)

// legBook knows the legs of all reading tasks. It is safe for concurrent use.
type legBook struct {
	legSource

	mu    sync.Mutex
	tasks map[chunk.Ref]*legs // guarded by mu, and all in it, too
}

// legSource is what legs need of the node. choose and blame are called without
// a lock.
type legSource struct {
	choose  func(gateway wire.Descriptor) ([]wire.Descriptor, error)
	hoods   func(wire.Descriptor) []netip.Prefix                          // where a relay lives
	get     func(id wire.NodeID, first bool) (d wire.Descriptor, ok bool) // as it is now, as a path's first hop or a later one; false if it cannot be used
	next    func(before, id wire.NodeID) bool                             // the one can be reached from the other, as far as is known
	suspect func(id wire.NodeID) int                                      // paths over it that have fallen of late
	blame   func(func())                                                  // calls its argument soon, unless it is this node that is cut off
	doubt   func() bool                                                   // something failed, and nobody has answered since
}

// legs are the relays of own choice of one reading task: rows of them, each
// good for a path to any gateway.
//
// A path that fails is built again over the same row: whoever stands behind it,
// publisher or gateway, is blamed first, and fails paths in vain. The new
// set-up tells which relay of the row cannot be reached, if one cannot: that
// one alone is replaced. A row over which paths are built and then end, again
// and again, loses its last relay.
//
// As many rows as the task wants routes are drawn as they are needed. Whatever
// else is drawn costs a draw (fetch.Draw), for each relay that the task has not
// shown itself to and that is not pinned; where none is left, paths share rows,
// of other tasks, too. Rows outlive a session that ended because nobody read,
// and are drawn anew when one ends in its time.
type legs struct {
	book    *legBook
	rows    []*leg
	drawing chan struct{}        // capacity 1, taken without book.mu: who has its token draws a row, and knows of those drawn before
	seen    map[wire.NodeID]bool // relays that stand or stood in a row
	looks   looks
	used    time.Time
}

// leg is one row.
type leg struct {
	hops    []wire.Descriptor // nil while they are being drawn
	users   int               // paths, those that are being built, too
	last    time.Time         // used
	broken  int               // index of the relay to replace; -1: none
	strikes int
}

func newLegBook(from legSource) *legBook {
	return &legBook{legSource: from, tasks: make(map[chunk.Ref]*legs)}
}

// of gives the legs of root's task.
func (b *legBook) of(root chunk.Ref) *legs {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	l := b.tasks[root]
	if l != nil && !l.staleLocked(now) {
		l.used = now
		return l
	}
	if len(b.tasks) >= maxLegs {
		for old, x := range b.tasks {
			if x.staleLocked(now) {
				delete(b.tasks, old)
			}
		}
	}
	l = &legs{book: b, drawing: make(chan struct{}, 1), seen: make(map[wire.NodeID]bool), used: now}
	b.tasks[root] = l
	return l
}

// renew has root's rows drawn anew from now on, as its session has ended in its
// time; those in use serve to their end.
func (b *legBook) renew(root chunk.Ref) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.tasks, root)
}

// staleLocked reports whether l is as good as new ones.
func (l *legs) staleLocked(now time.Time) bool {
	return now.Sub(l.used) > legsIdle && !slices.ContainsFunc(l.rows, func(r *leg) bool { return r.users > 0 })
}

// take gives a row for a path to gateway, and its relays; done must follow. In
// this order: one that is idle and not suspect, a further one if the task's
// speed asks for it, one that is idle, one that is mended, one that others use
// or that may still be of use, one of another task's. An idle one gives way to
// one that is in use where more paths have fallen over a relay of it than use
// the other: to find out what ails it can wait until one path works.
func (l *legs) take(ctx context.Context, gateway wire.Descriptor) (*leg, []wire.Descriptor, error) {
	width := fetch.Width(ctx)
	b := l.book
	b.mu.Lock()
	defer b.mu.Unlock()
	whole := func(r *leg) bool { return r.broken < 0 }
	r := l.pickLocked(gateway, whole)
	var err error
	if (r == nil || l.loadLocked(r) > 0) && len(l.rows) < width {
		if r, err = l.drawLocked(gateway); r == nil {
			r = l.pickLocked(gateway, whole)
		}
	}
	if r == nil || r.users > 0 {
		if idle := l.idleLocked(gateway); idle != nil && l.mendLocked(ctx, idle, gateway, &err) {
			r = idle
		} else {
			r = l.pickLocked(gateway, whole)
		}
	}
	if r == nil {
		r = l.pickLocked(gateway, func(*leg) bool { return true })
	}
	if r == nil {
		r = l.borrowLocked(gateway)
	}
	if r == nil {
		if err == nil {
			err = fetch.ErrRebuilds
		}
		return nil, nil, err
	}
	r.users++
	r.last, l.used = time.Now(), time.Now()
	return r, slices.Clone(r.hops), nil
}

// pickLocked gives the row whose relays can be used for a path to gateway that
// has the least load, of several that over which fewer paths have fallen, then
// the one that rested longest.
func (l *legs) pickLocked(gateway wire.Descriptor, may func(*leg) bool) (best *leg) {
	least := 0
	for _, r := range l.rows {
		if r.hops == nil || !may(r) || l.unfit(r, gateway) >= 0 {
			continue
		}
		load := l.loadLocked(r)
		if best == nil || cmp.Or(cmp.Compare(load, least), cmp.Compare(best.users, r.users), r.last.Compare(best.last)) < 0 {
			best, least = r, load
		}
	}
	return best
}

// loadLocked is how many use a row, and how many paths have fallen over the
// worst of its relays.
func (l *legs) loadLocked(r *leg) int {
	worst := 0
	for _, h := range r.hops {
		worst = max(worst, l.book.suspect(h.Node))
	}
	return r.users + worst
}

// unfit returns the index of a relay of a row that cannot be on a path to
// gateway now; -1 for none.
func (l *legs) unfit(r *leg, gateway wire.Descriptor) int {
	if at := l.book.refresh(r.hops); at >= 0 {
		return at
	}
	return l.book.conflict(r.hops, gateway)
}

// idleLocked gives a row that is of no use as it is, one that is broken first.
func (l *legs) idleLocked(gateway wire.Descriptor) (idle *leg) {
	for _, r := range l.rows {
		if r.hops != nil && r.users == 0 && (r.broken >= 0 || idle == nil && l.unfit(r, gateway) >= 0) {
			idle = r
		}
	}
	return idle
}

// drawLocked adds a row, where possible of relays that no other row has: so the
// loss of one leaves a path.
func (l *legs) drawLocked(gateway wire.Descriptor) (*leg, error) {
	r := &leg{broken: -1}
	l.rows = append(l.rows, r) // others see that it is coming
	l.book.mu.Unlock()
	l.drawing <- struct{}{}
	defer func() { <-l.drawing }()
	l.book.mu.Lock()
	var others []wire.Descriptor
	for _, o := range l.rows {
		others = append(others, o.hops...)
	}
	l.book.mu.Unlock()
	hops, err := leastShared(others, l.book.suspect, func() ([]wire.Descriptor, error) { return l.book.choose(gateway) })
	l.book.mu.Lock()
	if err != nil {
		l.rows = slices.DeleteFunc(l.rows, func(o *leg) bool { return o == r })
		return nil, err
	}
	l.setLocked(r, hops)
	return r, nil
}

// leastShared makes choices until one has no relay of others, and gives the one
// that has the fewest of them: an entry that is shared counts most, since there
// are only two. A relay over which a path has fallen of late counts as one that
// is shared.
func leastShared(others []wire.Descriptor, suspect func(wire.NodeID) int, choose func() ([]wire.Descriptor, error)) (best []wire.Descriptor, err error) {
	least := 0
	for range legDraws {
		hops, err := choose()
		if err != nil {
			if best != nil {
				return best, nil
			}
			return nil, err
		}
		shared := 0
		for i, h := range hops {
			n := suspect(h.Node)
			for _, o := range others {
				if o.Node == h.Node {
					n++
				}
			}
			shared += n * (1 + len(hops)/(i+1))
		}
		if best == nil || shared < least {
			best, least = hops, shared
		}
		if shared == 0 {
			break
		}
	}
	return best, nil
}

// errRowDown says that a pinned relay of a row does not answer, and that no
// other one fits the rest of it now.
var errRowDown = errors.New("no pinned relay answers")

// mendLocked replaces the relay of an idle row that cannot be used, and no
// other one where that will do. It reports whether the row is whole. A pinned
// relay is never a reason to draw those behind it.
func (l *legs) mendLocked(ctx context.Context, r *leg, gateway wire.Descriptor, why *error) bool {
	at := r.broken
	if at < 0 {
		at = l.unfit(r, gateway)
	}
	if at < 0 {
		return true
	}
	old := r.hops
	mended := func(hops []wire.Descriptor) []wire.Descriptor {
		if len(hops) != len(old) || hops[at].Node == old[at].Node {
			return nil
		}
		alone := slices.Clone(old)
		alone[at] = hops[at]
		pinned := slices.Clone(old)
		copy(pinned, hops[:min(pinnedHops, len(hops))])
		for _, m := range [][]wire.Descriptor{alone, pinned} {
			if l.book.refresh(m) < 0 && l.book.conflict(m, gateway) < 0 {
				return m
			}
			if at >= pinnedHops {
				break
			}
		}
		return nil
	}
	r.hops = nil // nobody else takes it meanwhile
	hops, err := l.chooseLocked(gateway, func(hops []wire.Descriptor) bool { return mended(hops) != nil })
	if err == nil {
		switch m := mended(hops); {
		case m != nil:
			hops = m
		case at < pinnedHops:
			err = errRowDown
		}
	}
	if err == nil {
		err = l.payLocked(ctx, hops)
	}
	if err != nil {
		r.hops, *why = old, err
		return false
	}
	l.setLocked(r, hops)
	return true
}

// chooseLocked chooses relays, such as fit if that is possible.
func (l *legs) chooseLocked(gateway wire.Descriptor, fits func([]wire.Descriptor) bool) (hops []wire.Descriptor, err error) {
	l.book.mu.Unlock()
	defer l.book.mu.Lock()
	for range legDraws {
		if hops, err = l.book.choose(gateway); err != nil || fits(hops) {
			break
		}
	}
	return hops, err
}

// payLocked takes a draw for each relay that is new to the task.
func (l *legs) payLocked(ctx context.Context, hops []wire.Descriptor) error {
	for _, h := range hops[min(pinnedHops, len(hops)):] {
		if l.seen[h.Node] {
			continue
		}
		l.book.mu.Unlock()
		err := fetch.Draw(ctx)
		l.book.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *legs) setLocked(r *leg, hops []wire.Descriptor) {
	r.hops, r.broken, r.strikes = hops, -1, 0
	for _, h := range hops {
		l.seen[h.Node] = true
	}
}

// borrowLocked adds a row of relays that another task has shown itself to.
func (l *legs) borrowLocked(gateway wire.Descriptor) *leg {
	for _, other := range l.book.tasks { // a random one
		if other == l {
			continue
		}
		if o := other.pickLocked(gateway, func(r *leg) bool { return r.broken < 0 }); o != nil {
			r := &leg{broken: -1}
			l.rows = append(l.rows, r)
			l.setLocked(r, slices.Clone(o.hops))
			return r
		}
	}
	return nil
}

// refresh brings descriptors up to date; they expire. It returns the index of
// a relay that cannot be used now, -1 for none.
func (b *legBook) refresh(hops []wire.Descriptor) int {
	for i := range hops {
		d, ok := b.get(hops[i].Node, i == 0)
		if !ok {
			return i
		}
		hops[i] = d
	}
	return -1
}

// conflict returns the index of a hop that is, or is near, another one or the
// gateway, or that cannot follow the one before; -1 for none. Of two the later
// one gives way.
func (b *legBook) conflict(hops []wire.Descriptor, gateway wire.Descriptor) int {
	near := func(x, y wire.Descriptor) bool {
		if x.Node == y.Node {
			return true
		}
		other := b.hoods(y)
		return slices.ContainsFunc(b.hoods(x), func(h netip.Prefix) bool { return slices.Contains(other, h) })
	}
	for i := len(hops) - 1; i >= 0; i-- {
		if i > 0 && !b.next(hops[i-1].Node, hops[i].Node) || near(hops[i], gateway) || slices.ContainsFunc(hops[:i], func(h wire.Descriptor) bool { return near(hops[i], h) }) {
			return i
		}
	}
	return -1
}

// fate is how a path over a leg ended.
type fate int

const (
	legClosed  fate = iota // as it should, or nobody knows
	legWorked              // something was asked and answered
	legFailed              // by itself, or given up because too little came
	legRefused             // a relay of the leg could not be reached
)

// done gives a row back; at is the relay that was not reached.
func (l *legs) done(r *leg, how fate, at int) {
	l.book.mu.Lock()
	r.users--
	r.last, l.used = time.Now(), time.Now()
	end := r.hops[len(r.hops)-1].Node
	switch how {
	case legRefused:
		r.broken = at
	case legWorked:
		r.strikes = 0
	}
	l.book.mu.Unlock()
	if how != legFailed {
		return
	}
	l.book.blame(func() {
		l.book.mu.Lock()
		defer l.book.mu.Unlock()
		at := len(r.hops) - 1
		if at < 0 || r.hops[at].Node != end { // it is being replaced, or was: not its fault
			return
		}
		if r.strikes++; r.strikes >= legStrikes {
			r.broken, r.strikes = at, 0
		}
	})
}
