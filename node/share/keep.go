package share

import (
	"context"
	"time"
)

// keep is the one goroutine that walks, commits and hands out work. The
// database is written by nobody else while it runs, links and groups excepted.
func (s *Share) keep() {
	defer close(s.jobs)
	defer s.flush() // what is known is kept
	rescan := time.NewTicker(s.cfg.Rescan)
	defer rescan.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := time.Now()     // end of the last look at everything
	var took time.Duration // by it
	for {
		select {
		case <-s.ctx.Done():
			return
		case r := <-s.results:
			s.finish(s.drain(r))
		case <-s.kick:
		case <-rescan.C:
			s.lookAtAll()
		case <-timer.C:
		}
		if s.watch.isLimited() && time.Since(last) > max(min(limitedAfter, s.cfg.Rescan), 20*took) {
			s.lookAtAll()
		}
		start := time.Now()
		next, all := s.round()
		if all {
			last = time.Now()
			took = last.Sub(start)
		}
		timer.Reset(next)
	}
}

// drain takes the results that are there or come within a moment, at most a
// batch: a commit costs as much as hashing many small files.
func (s *Share) drain(r result) []result {
	rs := append(make([]result, 0, batch), r)
	s.mu.Lock()
	out := s.busy
	s.mu.Unlock()
	end := time.NewTimer(linger)
	defer end.Stop()
	for len(rs) < min(batch, out) {
		select {
		case r := <-s.results:
			rs = append(rs, r)
		case <-end.C:
			return rs
		case <-s.ctx.Done():
			return rs
		}
	}
	return rs
}

// round does what is to be done now and returns how long there is nothing
// more, and whether it looked at everything.
func (s *Share) round() (time.Duration, bool) {
	wait := limitedAfter
	now := time.Now()
	s.mu.Lock()
	all := s.full
	var looks []look
	switch {
	case all:
		s.full = false
		clear(s.looks)
	case len(s.looks) == 0:
		s.gathered = time.Time{}
	case s.gathered.IsZero():
		s.gathered = now.Add(gather)
		wait = gather
	case now.Before(s.gathered):
		wait = s.gathered.Sub(now)
	default:
		s.gathered = time.Time{}
		for l := range s.looks {
			looks = append(looks, l)
		}
		clear(s.looks)
	}
	sources := append([]*source(nil), s.sources...)
	s.pruneLocked(now)
	s.mu.Unlock()
	if all {
		for _, src := range sources {
			s.scanSource(src)
		}
	} else {
		s.lookAround(looks)
	}
	// Looking for folders that are complete costs time by their number, so
	// it gets a tenth of it at most.
	if rest := 10*s.settleTook - time.Since(s.settled); rest > 0 {
		wait = min(wait, rest)
	} else {
		start := time.Now()
		s.settleFolders()
		s.settled = time.Now()
		s.settleTook = s.settled.Sub(start)
	}
	s.flush()
	s.mu.Lock()
	s.tellLocked()
	if s.news {
		wait = min(wait, newsEvery)
	}
	s.mu.Unlock()
	if at := s.dispatch(time.Now()); !at.IsZero() {
		wait = min(wait, max(time.Until(at), time.Millisecond))
	}
	return wait, all
}

// lookAround compares some names with the disk, those of a source together
// so that a move between folders is seen as one.
func (s *Share) lookAround(looks []look) {
	bySource := map[*source][]string{}
	for _, l := range looks {
		bySource[l.src] = append(bySource[l.src], l.name)
	}
	for src, names := range bySource {
		if src.base != "" {
			s.scanSource(src) // few, and its root may have gone
			continue
		}
		root, err := src.open()
		if err != nil {
			s.scanSource(src) // tells why
			continue
		}
		w := s.newScan(src)
		for _, name := range names {
			_ = w.one(root, name) // what fails is noted in the tree
		}
		_ = root.Close()
		w.end()
	}
}

// flush writes what changed besides hashing. What cannot be written is kept
// for the next time.
func (s *Share) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes := s.changes
	s.changes = nil
	if len(changes) == 0 {
		return
	}
	if err := s.applyLocked(changes); err != nil {
		s.changes = append(changes, s.changes...)
	}
}

// applyLocked writes changes to the catalogue; the lock is not held meanwhile.
func (s *Share) applyLocked(changes []change) error {
	s.mu.Unlock()
	err := s.cat.apply(context.WithoutCancel(s.ctx), changes)
	s.mu.Lock()
	s.noteLocked("catalogue", err)
	return err
}

// noteLocked keeps or ends an error of the whole, without names.
func (s *Share) noteLocked(what string, err error) {
	if err == nil {
		delete(s.notes, what+" cannot be written")
		return
	}
	s.notes[what+" cannot be written"] = reason(err)
	s.log.Warn("catalogue of shares cannot be written")
}

// pruneLocked forgets publications that have run out.
func (s *Share) pruneLocked(now time.Time) {
	if now.Before(s.pruned.Add(time.Minute)) {
		return
	}
	s.pruned = now
	for r, t := range s.until {
		if !now.Before(t) {
			delete(s.until, r)
			s.changedLocked()
		}
	}
}
