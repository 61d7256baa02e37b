package share

import (
	"container/heap"
	"time"
)

// dueQueue holds the files that wait to be quiet, the next due first.
type dueQueue []due

type due struct {
	at time.Time
	n  *node
}

func (q dueQueue) Len() int           { return len(q) }
func (q dueQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q dueQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push is for container/heap.
func (q *dueQueue) Push(x any) { *q = append(*q, x.(due)) }

// Pop is for container/heap.
func (q *dueQueue) Pop() any {
	last := len(*q) - 1
	d := (*q)[last]
	(*q)[last] = due{}
	*q = (*q)[:last]
	return d
}

// queueLocked has n hashed once it is quiet.
func (s *Share) queueLocked(n *node) {
	if n.queued || n.writing {
		return
	}
	n.queued = true
	heap.Push(&s.queue, due{s.dueLocked(n, time.Now()), n})
	s.wake()
}

// dueLocked is when n may be hashed.
func (s *Share) dueLocked(n *node, now time.Time) time.Time {
	last := n.stat.changed(now)
	if n.touched.After(last) {
		last = n.touched
	}
	if last.IsZero() {
		return now
	}
	if n.racy && !n.must {
		return last.Add(max(s.cfg.Settle, s.cfg.racy))
	}
	return last.Add(s.cfg.Settle)
}

// dispatch gives the workers what is due and returns when the next one will
// be, zero for never.
func (s *Share) dispatch(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.busy < inflight && len(s.queue) > 0 {
		if s.queue[0].at.After(now) {
			return s.queue[0].at
		}
		n := heap.Pop(&s.queue).(due).n
		if !n.queued || n.writing || n.job != nil || !n.live() {
			n.queued = false
			continue
		}
		if at := s.dueLocked(n, now); at.After(now) { // touched meanwhile
			heap.Push(&s.queue, due{at, n})
			continue
		}
		n.queued = false
		n.job = s.newJobLocked(n)
		s.busy++
		s.jobs <- n.job // has room for inflight
	}
	return time.Time{} // a result will call again
}
