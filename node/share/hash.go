package share

import (
	"context"
	"errors"
	"os"
	"time"

	"wanderfs/cache/chunk"
)

// inflight is how many files wait in front of the workers. Ours.
const inflight = 1024

var errChanged = errors.New("changed while it was read")

// result is what became of a job.
type result struct {
	*job
	entry   chunk.Entry
	blocks  *blocks
	started time.Time
	err     error
}

func (s *Share) newJobLocked(n *node) *job {
	src, name := n.place()
	j := &job{n: n, id: n.id, src: src, name: name, kind: n.kind, stat: n.stat, target: n.entry.Target}
	j.ctx, j.cancel = context.WithCancel(s.ctx)
	return j
}

// hashAll is a worker.
func (s *Share) hashAll() {
	for j := range s.jobs {
		r := j.hash()
		j.cancel()
		s.results <- r // has room for inflight
	}
}

// hash reads the file, which must be the same before and after.
func (j *job) hash() result {
	r := result{job: j, started: time.Now(), blocks: &blocks{}}
	if r.err = j.ctx.Err(); r.err != nil {
		return r
	}
	if j.kind == chunk.Symlink {
		r.entry, r.err = chunk.EncodeSymlink(j.target, r.blocks)
		return r
	}
	root, err := j.src.open()
	if err != nil {
		r.err = err
		return r
	}
	defer func() { _ = root.Close() }()
	f, err := root.OpenFile(j.name, openFile, 0)
	if err != nil {
		r.err = err
		return r
	}
	defer func() { _ = f.Close() }()
	st, kind, err := fstat(f)
	if err == nil && (kind != chunk.File || st != j.stat) {
		err = errChanged
	}
	if err != nil {
		r.err = err
		return r
	}
	r.entry, r.err = chunk.ImportFile(j.ctx, f, st.size, r.blocks)
	if after, _, err := fstat(f); err != nil || after != st {
		r.err = errChanged
	}
	if r.err == nil && len(r.blocks.leaves) == 0 {
		r.err = r.blocks.Leaf(r.entry.Ref, 0, 0) // the empty file
	}
	return r
}

// Node keeps an inner block. It satisfies chunk.Sink.
func (b *blocks) Node(r chunk.Ref, block []byte) error {
	if k, ok := key(r); ok {
		b.keys = append(b.keys, k)
		b.nodes = append(b.nodes, append([]byte(nil), block...))
	}
	return nil
}

// Leaf notes where a leaf is. It satisfies chunk.Sink.
func (b *blocks) Leaf(r chunk.Ref, off, _ int64) error {
	k, ok := key(r)
	if !ok || off != int64(len(b.leaves))*chunk.Size {
		return errors.New("leaves out of order")
	}
	b.leaves = append(b.leaves, k)
	return nil
}

// finish takes results into the catalogue and then into the tree, in this
// order: what is ready can be found.
func (s *Share) finish(rs []result) {
	s.mu.Lock()
	s.busy -= len(rs)
	var good []result
	for _, r := range rs {
		if r.n.job != r.job {
			continue // withdrawn since
		}
		if r.err == nil {
			good = append(good, r)
			continue
		}
		s.stumbleLocked(r)
	}
	s.chooseGroupsLocked(good)
	changes := s.changes
	s.changes = nil
	for _, r := range good {
		n := *r.n
		n.entry, n.stat = r.entry, r.stat
		n.racy = s.isRacy(r)
		b := r.blocks
		if r.n.entry.Ref == n.entry.Ref {
			b = nil // the same as before
		}
		changes = append(changes, n.change(b))
	}
	defer s.mu.Unlock()
	err := s.applyLocked(changes)
	if err != nil {
		s.changes = append(changes[:len(changes)-len(good):len(changes)-len(good)], s.changes...)
	}
	for _, r := range good {
		n := r.n
		switch {
		case n.job != r.job:
			if !n.live() { // removed while it was written down
				s.changes = append(s.changes, change{row: row{id: n.id}})
			}
			continue
		case err != nil:
			n.job, n.touched = nil, time.Now()
			s.queueLocked(n)
			continue
		}
		if n.entry.Ref != r.entry.Ref || n.state != ready {
			n.markDirty()
			s.changedLocked()
		}
		r.entry.Name = ""
		n.entry, n.state, n.err = r.entry, ready, ""
		n.must, n.racy, n.job = false, s.isRacy(r), nil
		if n.racy {
			s.queueLocked(n)
		}
	}
}

// isRacy reports whether a change right after the hashing could leave the same
// times behind. A time that lies in the future is given up on.
func (s *Share) isRacy(r result) bool {
	if r.kind != chunk.File {
		return false
	}
	age := r.started.Sub(time.Unix(0, r.stat.ctime))
	return age < s.cfg.racy && age > -s.cfg.racy
}

// stumbleLocked handles a file that could not be hashed.
func (s *Share) stumbleLocked(r result) {
	n := r.n
	n.job = nil
	switch {
	case s.ctx.Err() != nil:
	case errors.Is(r.err, errChanged), errors.Is(r.err, os.ErrNotExist), errors.Is(r.err, context.Canceled):
		n.withdraw()
		n.touched = time.Now()
		s.looks[look{r.src, r.name}] = struct{}{}
		s.queueLocked(n)
	default:
		if n.state == ready {
			s.changedLocked()
		}
		n.state, n.err, n.must = failed, reason(r.err), true
		n.markDirty()
	}
}
