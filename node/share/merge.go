package share

import (
	"wanderfs/cache/chunk"
)

// mergeLocked brings what was seen below p into the tree. It returns nil for
// what is never published.
func (w *scan) mergeLocked(p *node, e seen) *node {
	if w.src.dropped || e.kind == chunk.Unknown || e.kind == chunk.Symlink && !inside(p.path(), e.target) {
		return nil
	}
	n := p.kids[e.name]
	if n != nil && n.kind != e.kind {
		w.loseLocked(n)
		n = nil
	}
	if e.kind == chunk.Folder {
		return w.mergeFolderLocked(p, n, e)
	}
	if n == nil {
		n = w.s.newLocked(p, e.name, e.kind, e.stat)
		n.entry.Target = e.target
		n.pass = w.pass
		if len(w.s.opened) > 0 && w.src.base == "" {
			_, n.writing = w.s.opened[n.path()]
		}
		w.fresh = append(w.fresh, n)
		return n // queued at the end of the walk
	}
	n.pass = w.pass
	w.mergeFileLocked(n, e)
	return n
}

func (w *scan) mergeFolderLocked(p, n *node, e seen) *node {
	at := inode{e.stat.dev, e.stat.ino}
	if n == nil || n.stat.dev != at.dev || n.stat.ino != at.ino {
		if n != nil {
			w.loseLocked(n)
		}
		// A folder has one place: known elsewhere, it was moved here.
		if n = w.s.byInode[at]; n != nil && n.pass != w.pass && !n.above(p) {
			w.s.moveLocked(n, p, e.name)
		} else if n = w.goneFolder(at); n != nil {
			w.s.moveLocked(n, p, e.name)
		} else {
			n = w.s.newLocked(p, e.name, chunk.Folder, e.stat)
		}
	}
	n.pass = w.pass
	return n
}

// above reports whether p is n or below it.
func (n *node) above(p *node) bool {
	for ; p != nil; p = p.parent {
		if p == n {
			return true
		}
	}
	return false
}

// goneFolder takes a folder that this walk has missed elsewhere.
func (w *scan) goneFolder(at inode) *node {
	for i, n := range w.gone {
		if n.kind == chunk.Folder && n.stat.dev == at.dev && n.stat.ino == at.ino {
			w.gone = append(w.gone[:i], w.gone[i+1:]...)
			return n
		}
	}
	return nil
}

// mergeFileLocked compares a known file or symlink with the disk.
func (w *scan) mergeFileLocked(n *node, e seen) {
	known := !n.entry.Ref.IsZero() && n.entry.Target == e.target
	switch {
	case n.writing:
		n.stat = e.stat
	case known && !n.must && n.stat == e.stat:
		n.trust = false
		if n.state != ready {
			n.state, n.err = ready, ""
			n.markDirty()
			w.s.changedLocked()
		}
		if n.racy {
			w.s.queueLocked(n)
		}
	case known && !n.must && n.trust && n.stat.sameFile(e.stat):
		n.trust = false
		n.stat = e.stat
		w.s.putLocked(n, nil)
	case n.stat == e.stat && n.entry.Target == e.target && n.state == pending && (n.queued || n.job != nil):
		// already under way
	default:
		n.trust = false
		n.stat = e.stat
		if e.kind == chunk.Symlink {
			n.entry = chunk.Entry{Kind: chunk.Symlink, Target: e.target}
		}
		was := n.state
		n.withdraw()
		if was != pending {
			w.s.changedLocked()
		}
		w.s.queueLocked(n)
	}
}

// loseLocked takes n out; end decides whether it reappeared elsewhere.
func (w *scan) loseLocked(n *node) {
	if n.parent == nil {
		return
	}
	w.s.detachLocked(n)
	w.gone = append(w.gone, n)
	w.s.changedLocked()
}

// end matches files that vanished with files that appeared: the same inode
// with the same times is the same content. Then it forgets the rest.
func (w *scan) end() {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := map[stat]*node{}
	for _, g := range w.gone {
		g.each(func(n *node) {
			if n.kind == chunk.File && !n.must && !n.entry.Ref.IsZero() {
				lost[n.stat] = n
			}
		})
	}
	for _, f := range w.fresh {
		if !f.live() {
			continue
		}
		if old := lost[f.stat]; old != nil && !f.writing {
			delete(lost, f.stat)
			w.adoptLocked(f, old)
			continue
		}
		s.queueLocked(f)
	}
	for _, g := range w.gone {
		s.forgetLocked(g)
	}
	w.fresh, w.gone = nil, nil
}

// adoptLocked puts old, which vanished, in the place of f, which appeared.
func (w *scan) adoptLocked(f, old *node) {
	s := w.s
	p := f.parent
	s.detachLocked(f)
	if old.parent != nil {
		delete(old.parent.kids, old.name) // inside a folder that vanished
	}
	for i, g := range w.gone {
		if g == old {
			w.gone = append(w.gone[:i], w.gone[i+1:]...)
			break
		}
	}
	old.name, old.state, old.err = f.name, ready, ""
	s.attachLocked(p, old)
	old.markDirty()
	s.putLocked(old, nil)
	s.changedLocked()
	if old.racy {
		s.queueLocked(old)
	}
}

// moveLocked gives n, attached or not, a new place.
func (s *Share) moveLocked(n, p *node, name string) {
	group := n.top().group
	if n.parent != nil {
		n.markDirty()
		delete(n.parent.kids, n.name)
	}
	if p.isRoot() {
		n.group = group // a top-level item keeps its group under a new name
	}
	n.name = name
	n.each(func(k *node) {
		s.byID[k.id] = k
		if k.kind == chunk.Folder {
			s.byInode[inode{k.stat.dev, k.stat.ino}] = k
		}
	})
	s.attachLocked(p, n)
	n.markDirty()
	s.putLocked(n, nil)
	s.changedLocked()
}
