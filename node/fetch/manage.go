package fetch

import (
	"fmt"
	"time"
)

const tick = 100 * time.Millisecond // how often a task looks at its deadlines while it wants something

// run keeps the task's routes and deadlines until the fetcher closes, or until
// nobody has used the task for a while.
func (t *Task) run() {
	defer t.finish()
	timer := time.NewTimer(t.f.cfg.Idle)
	defer timer.Stop()
	for {
		now := time.Now()
		t.mu.Lock()
		busy := len(t.demanded) > 0 || len(t.ahead) > 0
		if busy {
			t.active = now
			t.handOverLocked()
			t.watchLocked(now)
			t.deadlinesLocked(now)
			t.routesLocked(now)
			t.assignLocked()
		}
		if !busy {
			t.endLeavingLocked()
		}
		idle := now.Sub(t.active)
		if !busy && idle >= t.f.cfg.Idle {
			for _, l := range append([]*link(nil), t.links...) {
				t.endLinkLocked(l)
			}
		}
		t.mu.Unlock()
		if !busy && idle >= t.f.cfg.Idle && t.f.retire(t) {
			return
		}
		switch {
		case busy:
			timer.Reset(tick)
		case idle < t.f.cfg.Idle:
			timer.Reset(t.f.cfg.Idle - idle)
		default:
			timer.Reset(t.f.cfg.Idle)
		}
		select {
		case <-t.wake:
		case <-timer.C:
		case <-t.ctx.Done():
			return
		}
	}
}

// finish ends all that the task began. Called once, by its owner.
func (t *Task) finish() {
	t.f.mu.Lock()
	if t.f.tasks[t.root] == t {
		delete(t.f.tasks, t.root)
	}
	t.f.mu.Unlock()
	t.cancel()
	t.mu.Lock()
	t.closed = true
	for _, f := range t.fetches {
		t.failLocked(f, ErrClosed)
	}
	for _, l := range append([]*link(nil), t.links...) {
		t.endLinkLocked(l)
	}
	t.mu.Unlock()
	t.wg.Wait()
	t.mu.Lock()
	t.recent.clear()
	t.mu.Unlock()
}

// deadlinesLocked ends what waited too long.
func (t *Task) deadlinesLocked(now time.Time) {
	for _, f := range append(append([]*fetch(nil), t.demanded...), t.ahead...) {
		if f.verifying || f.finished() {
			continue
		}
		last := later(f.since, f.progress)
		for _, p := range f.parts {
			for _, q := range p.reqs {
				if q.l.state == live {
					last = later(last, time.Unix(0, q.l.since.Load()))
				}
			}
		}
		waited := now.Sub(last)
		hope, why := t.hopeLocked(f)
		var err error
		switch {
		case waited >= t.f.cfg.Stall:
			err = fmt.Errorf("%w: %s", ErrStalled, why)
			if t.find.known == 0 && !t.find.reached {
				err = ErrNotFound
			}
		case !hope && (waited >= t.f.cfg.Lookup || t.refutedLocked(f)):
			err = fmt.Errorf("%w: %s", ErrNotFound, why)
			if len(t.bad) > 0 {
				err = fmt.Errorf("%w: %s", ErrStalled, why)
			}
		default:
			if waited > 2*time.Second {
				t.stalled = why
			}
			continue
		}
		t.stalled = why
		for w := range t.wants {
			w.refs = remove(w.refs, f.ref)
		}
		if f.demand > 0 {
			t.f.note(f.ref, why)
			t.f.note(t.root, why)
		}
		t.failLocked(f, err)
	}
}

// refutedLocked reports whether there were sources of f, each has lied or said
// that it does not hold it, and looking again has found no other: waiting
// longer would bring nothing.
func (t *Task) refutedLocked(f *fetch) bool {
	if len(f.absent) == 0 && len(t.bad) == 0 {
		return false
	}
	return t.find.heard > max(f.after, t.banned)
}

// hopeLocked reports whether a source that may have f is known, and why
// nothing comes, in words for the user.
func (t *Task) hopeLocked(f *fetch) (bool, string) {
	var connected, silent, building int
	for _, l := range t.links {
		switch {
		case f.absent[l.session]:
		case l.state == dialing:
			building++
		case l.bypassed:
			silent++
		default:
			connected++
		}
	}
	open := 0
	for _, c := range t.find.cands {
		if !f.absent[c.session] && !t.bad[c.session] && !t.find.gone[c.session] {
			open++
		}
	}
	hope := connected+silent+building+open > 0
	switch {
	case connected+silent > 0:
		return hope, "the sources are connected but silent"
	case building > 0 && !t.find.noWay:
		return hope, "no path to a source is ready yet"
	case open > 0 && time.Now().Before(t.find.drained):
		return hope, ErrRebuilds.Error()
	case hope && t.find.noWay:
		return hope, ErrNoWay.Error()
	case open > 0:
		return hope, "sources are known but cannot be reached"
	case len(f.absent) > 0 && len(t.bad) > 0:
		return hope, "some sources sent wrong data, and no other has this part"
	case len(f.absent) > 0:
		return hope, "no source has this part any more"
	case len(t.bad) > 0:
		return hope, "the only sources sent wrong data"
	default:
		return hope, "nobody was found who shares it"
	}
}
