package cache

import (
	"container/list"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// quota knows which chunks there are, how many bytes they take, and which go
// first. It touches no disk: it names victims, and Cache.drop removes them.
//
// A chunk moves through the places like this:
//
//	Put -> fresh -> policed -> gone       Pin, Hold: any -> pinned
//	                                      Unpin, Sweep: pinned -> fresh
//
// Fresh chunks wait in a queue of a quarter of the limit, first in, first out.
// So what was just fetched, and is read in a moment, is safe from a policy
// that likes old friends better; and a scan flows through the queue. Then
// W-TinyLFU decides whether a chunk was used more often than those that would
// make room for it. Pinned chunks are not known to the policy at all.
type quota struct {
	mu       sync.Mutex
	index    map[name]*entry
	pins     map[name]pin // also of chunks that are not here yet
	held     int          // pins with a round
	used     int64        // bytes of files in place, being written, or being removed
	writing  int64        // bytes of used that may not be on the disk yet
	pinned   int64        // bytes of pinned chunks in place
	fresh    list.List    // of *entry, oldest first
	freshSum int64        // bytes of fresh

	limit, minFree int64 // bytes; constant
	policy         *otter.Cache[name, *entry]

	victims struct { // what the policy gave up
		sync.Mutex
		list []*entry
	}
}

// place says who decides when a chunk goes.
type place uint8

const (
	gone place = iota
	fresh
	policed
	pinned
)

// entry is one chunk in place.
type entry struct {
	name name
	size int64 // bytes of the file

	place place         // guarded by quota.mu
	elem  *list.Element // guarded by quota.mu; in quota.fresh

	touched atomic.Int64          // unix ns of the last counted use
	uses    atomic.Int64          // counted uses
	good    atomic.Pointer[stamp] // the file that was verified; nil: none since opening
}

// page is what a file's size is rounded up to for accounting.
const page = 4096

// weight returns how many bytes a chunk of size bytes takes on disk.
func weight(size int64) int64 { return max(page, (size+page-1)/page*page) }

func (q *quota) init(limit, minFree int64) error {
	q.limit, q.minFree = limit, minFree
	q.index = make(map[name]*entry)
	q.pins = make(map[name]pin)
	p, err := otter.New(&otter.Options[name, *entry]{
		MaximumWeight: uint64(max(q.policedMax(), 1)),
		Weigher:       func(_ name, e *entry) uint32 { return uint32(weight(e.size)) },
		OnDeletion: func(d otter.DeletionEvent[name, *entry]) {
			if d.Cause == otter.CauseOverflow { // may run under the policy's locks: only note it
				q.victims.Lock()
				q.victims.list = append(q.victims.list, d.Value)
				q.victims.Unlock()
			}
		},
		Executor: func(task func()) { task() }, // no goroutines to wait for
		Logger:   otter.Logger(&otter.NoopLogger{}),
	})
	if err != nil {
		return fmt.Errorf("eviction policy: %w", err)
	}
	q.policy = p
	return nil
}

func (q *quota) close() {
	if q.policy != nil {
		q.policy.StopAllGoroutines()
	}
}

// freshMax and policedMax share out what is not pinned. A little is left over,
// so that most puts find room before they ask the policy for it.
func (q *quota) freshMax() int64 { return max(0, q.limit-q.pinned) / 4 }

func (q *quota) policedMax() int64 {
	slack := min(16<<20, q.limit/8)
	return max(0, q.limit-q.pinned-q.freshMax()-slack)
}

// lookup returns the entry of n, or nil.
func (q *quota) lookup(n name) *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.index[n]
}

// touch counts a use of e, at most one in touchEvery.
func (q *quota) touch(e *entry) {
	now, last := time.Now().UnixNano(), e.touched.Load()
	if now-last < int64(touchEvery) || !e.touched.CompareAndSwap(last, now) {
		return
	}
	e.uses.Add(1)
	q.policy.GetIfPresent(e.name) // counts only if it is there
}

// reserve books w bytes for a file that is about to be written. If they are
// not there it returns how many bytes to free first. avail is the free space of
// the disk, negative if unknown.
func (q *quota) reserve(w, avail int64) (short int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	short = q.used + w - q.limit
	if avail >= 0 && q.minFree > 0 {
		short = max(short, q.minFree+q.writing+w-avail)
	}
	if short > 0 {
		return short
	}
	q.used += w
	q.writing += w
	return 0
}

// unreserve gives back what reserve booked: nothing was written after all.
func (q *quota) unreserve(w int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used -= w
	q.writing -= w
}

// add makes e known, in place of an older entry of that name. reserved is what
// was booked for it. Its file must be in place, and the name's lock be held.
func (q *quota) add(e *entry, reserved int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := weight(e.size)
	q.used += w - reserved
	q.writing -= reserved
	if old := q.index[e.name]; old != nil {
		q.unplaceLocked(old)
		q.used -= weight(old.size)
	}
	q.index[e.name] = e
	q.placeLocked(e)
	q.shareLocked()
}

// remove forgets e and reports whether it was there. The caller then removes
// the file, holding the name's lock all the while, and calls removed. Pinned
// entries are removed only by force.
func (q *quota) remove(e *entry, force bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.index[e.name] != e || e.place == pinned && !force {
		return false
	}
	delete(q.index, e.name)
	q.unplaceLocked(e)
	return true
}

// removed gives the bytes of a removed file free.
func (q *quota) removed(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used -= weight(e.size)
}

func (q *quota) replaceLocked(n name) {
	if e := q.index[n]; e != nil {
		q.unplaceLocked(e)
		q.placeLocked(e)
		q.shareLocked()
	}
}

func (q *quota) placeLocked(e *entry) {
	if _, ok := q.pins[e.name]; ok {
		e.place = pinned
		q.pinned += weight(e.size)
		return
	}
	e.place = fresh
	e.elem = q.fresh.PushBack(e)
	q.freshSum += weight(e.size)
}

func (q *quota) unplaceLocked(e *entry) {
	switch e.place {
	case fresh:
		q.fresh.Remove(e.elem)
		e.elem = nil
		q.freshSum -= weight(e.size)
	case policed:
		q.policy.Invalidate(e.name)
	case pinned:
		q.pinned -= weight(e.size)
	}
	e.place = gone
}

// shareLocked hands chunks on from the fresh queue to the policy, and tells the
// policy what is left for it.
func (q *quota) shareLocked() {
	if m := uint64(q.policedMax()); m != q.policy.GetMaximum() {
		q.policy.SetMaximum(m)
	}
	for q.freshSum > q.freshMax() {
		e := q.fresh.Front().Value.(*entry)
		q.unplaceLocked(e)
		e.place = policed
		q.policy.Set(e.name, e)
		for range min(e.uses.Load(), 3) { // those that the policy has not seen
			q.policy.GetIfPresent(e.name)
		}
	}
}

// overflow returns what the policy gave up since it was last called.
func (q *quota) overflow() []*entry {
	if q.policy.WeightedSize() > q.policy.GetMaximum() {
		q.policy.CleanUp()
	}
	q.victims.Lock()
	defer q.victims.Unlock()
	l := q.victims.list
	q.victims.list = nil
	return l
}

// coldest returns entries of at least need bytes together, those that would be
// missed least first; fewer if there are no more that may go.
func (q *quota) coldest(need int64) []*entry {
	l := q.overflow()
	for _, e := range l {
		need -= weight(e.size)
	}
	if need <= 0 {
		return l
	}
	for e := range q.policy.Coldest() {
		if need <= 0 {
			return l
		}
		l = append(l, e.Value)
		need -= weight(e.Value.size)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for el := q.fresh.Front(); el != nil && need > 0; el = el.Next() {
		e := el.Value.(*entry)
		l = append(l, e)
		need -= weight(e.size)
	}
	return l
}

func (q *quota) stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Stats{Bytes: q.used, Limit: q.limit, Chunks: int64(len(q.index)), Pinned: q.pinned}
}
