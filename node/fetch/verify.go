package fetch

import (
	"bytes"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

// check verifies a chunk that is all here, gives it to those who wait, and
// stores it. It blocks while as many others do so as the Fetcher allows, which
// holds back the link that brought it: memory stays bounded.
func (t *Task) check(f *fetch) {
	select {
	case t.f.verify <- struct{}{}:
	case <-t.ctx.Done():
		return
	}
	t.wg.Go(func() {
		defer func() { <-t.f.verify }()
		t.settle(f)
	})
}

func (t *Task) settle(f *fetch) {
	// While f is verifying nobody else touches its parts.
	buf, source, single := t.join(f)
	err := t.f.hash(f.ref, buf.b)
	now := time.Now()

	t.mu.Lock()
	if f.finished() { // the task was closed
		t.mu.Unlock()
		buf.drop()
		return
	}
	if err != nil {
		buf.drop()
		t.mismatchLocked(f, source, single)
		t.mu.Unlock()
		t.kick()
		return
	}
	t.blameLocked(f, buf.b)
	for _, p := range f.parts {
		t.provenLocked(p.from)
	}
	f.freeParts()
	for w := range t.wants {
		w.refs = remove(w.refs, f.ref)
	}
	delete(t.fetches, f.ref)
	buf.hold(f.demand + 1) // those who wait, and recent
	f.buf = buf
	t.recent.add(f.ref, buf)
	t.done += int64(len(buf.b))
	t.active, t.moved, t.stalled = now, now, ""
	close(f.done)
	t.assignLocked()
	t.mu.Unlock()

	t.f.clear(f.ref, t.root)
	kept := t.f.cfg.Store.Put(f.ref, buf.b) == nil
	buf.drop()
	t.mu.Lock()
	t.full = !kept
	t.mu.Unlock()
}

// join puts the parts of f together and says who gave them: the session, if
// it was a single one. Its buffer has one user.
func (t *Task) join(f *fetch) (buf *buffer, source wire.SessionNumber, single bool) {
	source, single = f.parts[0].from, true
	if len(f.parts) == 1 {
		buf = f.parts[0].buf
		f.parts[0].buf = nil
		return buf, source, true
	}
	buf = t.f.pool.get(f.total)
	for _, p := range f.parts {
		if p.buf == nil {
			continue // beyond the end
		}
		copy(buf.b[min(p.off, len(buf.b)):], p.buf.b)
		single = single && p.from == source
	}
	return buf, source, single
}

// mismatchLocked deals with a chunk that is not what its name says. Who gave
// all of it has lied. If several gave parts, one source gives all of it next,
// and blameLocked will see.
func (t *Task) mismatchLocked(f *fetch, source wire.SessionNumber, single bool) {
	t.f.cfg.Log.Debug("chunk does not match", "parts", len(f.parts))
	t.retryWholeLocked(f)
	if single {
		t.banLocked(source)
	}
	if f.demand > 0 {
		t.demanded = append([]*fetch{f}, t.demanded...)
	}
	t.reorderLocked()
	t.orphanLocked(f)
	t.assignLocked()
}

// blameLocked compares what was doubtful with what is true.
func (t *Task) blameLocked(f *fetch, data []byte) {
	for _, p := range f.suspects {
		if p.buf == nil {
			continue
		}
		off := min(p.off, len(data))
		end := min(p.off+p.n, len(data))
		if !bytes.Equal(p.buf.b, data[off:end]) {
			t.banLocked(p.from)
		}
	}
}

// banLocked leaves a session that lied: its routes are closed and this task
// asks it nothing more.
func (t *Task) banLocked(s wire.SessionNumber) {
	if t.bad[s] {
		return
	}
	t.bad[s], t.banned = true, t.find.begun
	for _, l := range append([]*link(nil), t.links...) {
		if l.session == s {
			t.endLinkLocked(l)
		}
	}
}

func (t *Task) provenLocked(s wire.SessionNumber) {
	for _, l := range t.links {
		if l.session == s {
			l.proven = true
		}
	}
}

var _ chunk.RangeGetter = (*Task)(nil)
