package fetch

import (
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

const (
	wholeLength = chunk.MaxBlock // asks for a whole block of unknown length
	minRange    = 64 << 10       // bytes; smaller ranges cost more than they win
	maxRange    = 256 << 10
	urgent      = 4 << 20 // bytes beyond a route's window for what readers wait for
	maxQueue    = 512     // requests outstanding on a route
	maxCopies   = 2       // routes that one part is asked from at once
	splitAfter  = 50 * time.Millisecond
)

// fetch is one chunk on its way. Its life:
//
//	new -> parts asked for -> all parts here -> verifying -> finished
//	             ^                                 |
//	             +------ whole, from one source <--+ mismatch
type fetch struct {
	ref       chunk.Ref
	demand    int  // readers that wait
	ahead     bool // in Task.ahead
	parts     []*part
	claim     int64 // bytes, as a folder claims; 0 if none does
	total     int   // length of the block, once an answer told; 0 before
	whole     bool
	verifying bool
	dropped   bool
	suspects  []*part // parts of a chunk that did not match: somebody lied
	absent    map[wire.SessionNumber]bool
	after     int       // searches begun when last wanted, or denied by a source
	since     time.Time // wanted, or first waited for
	progress  time.Time // bytes last came

	done chan struct{} // closed when finished; then buf or err is set
	buf  *buffer       // one user for each that waited
	err  error
}

func (f *fetch) finished() bool { return f.buf != nil || f.err != nil || f.dropped }

// freeParts gives back the memory of parts and suspects.
func (f *fetch) freeParts() {
	for _, p := range append(f.parts, f.suspects...) {
		p.dead = true
		if p.buf != nil {
			p.buf.drop()
			p.buf = nil
		}
	}
	f.parts, f.suspects = nil, nil
}

// part is a range of a chunk, or all of it.
type part struct {
	off, n int
	reqs   []*req // outstanding
	done   bool
	dead   bool // its fetch needs it no more
	late   bool // it did not come from a route in doubt; who has proven himself is asked
	buf    *buffer
	from   wire.SessionNumber
}

// req is one request on one link.
type req struct {
	f         *fetch
	p         *part
	l         *link
	tag       uint32
	size      int64 // bytes expected, as counted in link.out
	sent      time.Time
	due       time.Time // after which a copy may be asked for elsewhere
	begun     bool      // its answer has begun
	cancelled bool      // taken back
	rode      bool      // in the handshake
	before    int64     // link.taken when sent
	beforeAt  time.Time
}

func (q *req) wire(k kind) request {
	return request{Kind: k, Tag: q.tag, Offset: uint32(q.p.off), Length: uint32(q.p.n), Ref: q.f.ref}
}

// planLocked decides in which parts f is asked for. Chunks go whole, each over
// one route, but where all routes are slow; the one that a reader waits for is
// split when several proven routes can bring it sooner together.
func (t *Task) planLocked(f *fetch) {
	if f.demand > 0 && !f.whole && f.ref.IsRaw() {
		var proven int
		var rate float64
		best := time.Duration(1<<63 - 1)
		for _, l := range t.links {
			if l.usable(f) && l.proven {
				proven++
				rate += l.speed()
				best = min(best, l.eta(chunk.Size))
			}
		}
		if proven > 1 && best > splitAfter {
			n := maxRange
			if rate < 4<<20 {
				n = minRange * 2
			}
			if rate < 1<<20 {
				n = minRange
			}
			f.cutLocked(n)
			return
		}
	}
	if n := t.pieceLocked(f); n > 0 {
		f.cutLocked(n)
		return
	}
	f.parts = []*part{{n: wholeLength}}
}

// assignLocked gives parts that nobody was asked for to links that have room:
// first what readers wait for, then what is wanted ahead.
func (t *Task) assignLocked() {
	if len(t.links) == 0 {
		return
	}
	for _, f := range t.demanded {
		t.assignFetchLocked(f, 0)
	}
	var before int64
	var total float64
	room := false
	for _, l := range t.links {
		if l.state == live && !l.bypassed {
			total += l.speed()
			room = room || l.out < l.window()
		}
	}
	if !room {
		return
	}
	for _, f := range t.ahead {
		if f.demand == 0 {
			slack := time.Duration(float64(before) / total * float64(time.Second))
			if !t.assignFetchLocked(f, slack) {
				break
			}
		}
		before += f.size(nil)
	}
	t.flushLocked()
}

func (t *Task) flushLocked() {
	for _, l := range t.links {
		if len(l.pending) > 0 {
			l.flush()
		}
	}
}

// assignFetchLocked reports whether later chunks may find room, too.
func (t *Task) assignFetchLocked(f *fetch, slack time.Duration) bool {
	if f.verifying || f.finished() {
		return true
	}
	if len(f.parts) == 0 {
		t.planLocked(f)
	}
	for _, p := range f.parts {
		if p.done || len(p.reqs) > 0 {
			continue
		}
		l := t.pickLocked(f, p, slack)
		if l == nil {
			return len(f.absent) > 0
		}
		l.send(f, p)
	}
	if f.demand > 0 {
		t.flushLocked()
	}
	return true
}

// pickLocked returns the link that brings p soonest. A link with room that is
// much slower than a full one gets p only if p is not needed before (slack).
func (t *Task) pickLocked(f *fetch, p *part, slack time.Duration) *link {
	size := f.size(p)
	var pick *link
	var eta, soonest time.Duration
	found := false
	for _, l := range t.links {
		if !l.usable(f) || p.askedOn(l) || len(l.queue) >= maxQueue {
			continue
		}
		e := l.eta(size)
		// What was in doubt goes to who has proven itself.
		if (f.whole || p.late) && !l.proven || l.suspect {
			e += time.Second
		}
		if !found || e < soonest {
			soonest, found = e, true
		}
		room := l.window()
		if f.demand > 0 {
			room += urgent
		}
		if l.out > 0 && l.out+size > room {
			continue
		}
		if pick == nil || e < eta {
			pick, eta = l, e
		}
	}
	if pick == nil || eta > 2*soonest+50*time.Millisecond && eta > slack {
		return nil
	}
	return pick
}

// size is how many bytes p, a part of f or nil for all, will be.
func (f *fetch) size(p *part) int64 {
	switch {
	case p != nil && p.n != wholeLength:
		return int64(p.n)
	case f.claim > 0:
		return f.claim
	}
	return chunk.Size
}

func (p *part) askedOn(l *link) bool {
	for _, q := range p.reqs {
		if q.l == l {
			return true
		}
	}
	return false
}

// takeBackLocked makes q's part free for others. The answer, if it comes all
// the same, is used where it helps.
func (t *Task) takeBackLocked(q *req) {
	q.p.reqs = remove(q.p.reqs, q)
	if !q.begun && !q.cancelled && q.l.state != dead {
		q.cancelled = true
		q.l.pending = appendRequest(q.l.pending, q.wire(kindCancel))
		q.l.flush()
	}
}

// arrivedLocked takes in the answer to q, the first of its link's queue. It
// returns the fetch if that is whole now and must be verified. It takes over
// buf.
func (t *Task) arrivedLocked(q *req, a answer, buf *buffer, now time.Time) *fetch {
	f, p := q.f, q.p
	p.reqs = remove(p.reqs, q)
	useful := !f.finished() && !f.verifying && !p.done && !p.dead
	if a.Status != statusData || !useful {
		if buf != nil {
			buf.drop()
		}
		if useful {
			switch a.Status {
			case statusNotHeld:
				if f.absent == nil {
					f.absent = make(map[wire.SessionNumber]bool)
				}
				f.absent[q.l.session], f.after = true, t.find.begun
				t.kick()
			case statusTooMuch:
				q.l.refusals++
				q.l.rest = now.Add(min(250*time.Millisecond<<min(q.l.refusals, 6), maxRetry))
			}
			t.orphanLocked(f)
		}
		return nil
	}
	n := int64(len(buf.b))
	t.rate.add(n, now)
	f.progress, t.moved = now, now
	p.done, p.buf, p.from = true, buf, q.l.session
	q.l.refusals = 0
	for _, other := range append([]*req(nil), p.reqs...) {
		t.takeBackLocked(other)
	}
	switch total := int(a.Total); {
	case f.total == 0 || len(f.parts) == 1:
		f.total = total
		t.fitLocked(f)
	case f.total != total:
		// Two sessions tell two lengths: let one give all of it.
		t.retryWholeLocked(f)
		return nil
	}
	for _, p := range f.parts {
		if !p.done {
			return nil
		}
	}
	f.verifying = true
	t.demanded = remove(t.demanded, f)
	t.ahead = remove(t.ahead, f)
	f.ahead = false
	return f
}

// fitLocked makes the parts of f cover exactly its total.
func (t *Task) fitLocked(f *fetch) {
	if len(f.parts) == 1 {
		return
	}
	end := 0
	for _, p := range f.parts {
		if p.off >= f.total && !p.done {
			p.done = true
			for _, q := range append([]*req(nil), p.reqs...) {
				t.takeBackLocked(q)
			}
		}
		end = max(end, p.off+p.n)
	}
	for ; end < f.total; end += maxRange {
		f.parts = append(f.parts, &part{off: end, n: maxRange})
	}
}

// retryWholeLocked asks for f again, all of it from one source. The parts stay,
// to see later who lied.
func (t *Task) retryWholeLocked(f *fetch) {
	for _, p := range f.parts {
		for _, q := range append([]*req(nil), p.reqs...) {
			t.takeBackLocked(q)
		}
		p.dead = true
		if p.buf != nil && len(f.suspects) < 2*chunk.MaxBlock/minRange {
			f.suspects = append(f.suspects, p)
		} else if p.buf != nil {
			p.buf.drop()
			p.buf = nil
		}
	}
	f.parts, f.total, f.whole, f.verifying = nil, 0, true, false
	f.progress = time.Time{} // what came was none
}

// orphanLocked forgets f if nobody wants it and nothing is on its way.
func (t *Task) orphanLocked(f *fetch) {
	if f.demand > 0 || f.ahead || f.verifying || f.finished() {
		return
	}
	for _, p := range f.parts {
		if len(p.reqs) > 0 {
			return
		}
	}
	t.forgetLocked(f)
}
