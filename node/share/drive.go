package share

import (
	"path"
	"strings"
	"time"

	"wanderfs/cache/chunk"
)

// The drive tells what is done to the shared directory through it. All of
// this would be noticed anyway, but later. Names are slash names below the
// shared directory; none of these calls waits for the disk.

// BeginWrite withdraws the file at once: call it before the first write, or
// truncation, is forwarded. It is hashed again after Closed.
func (s *Share) BeginWrite(name string) {
	name, ok := clean(name)
	if !ok || Hidden(name) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened[name] = struct{}{}
	n := s.sources[0].root.find(name)
	if n == nil || n.kind != chunk.File {
		return
	}
	was := n.state
	n.writing, n.queued, n.touched = true, false, time.Now()
	n.withdraw()
	if was == ready {
		s.changedLocked()
	}
}

// Wrote says that the file was written to. It implies BeginWrite.
func (s *Share) Wrote(name string) { s.BeginWrite(name) }

// Closed says that nobody has the file open for writing any more. It is
// hashed when it has been quiet for Config.Settle.
func (s *Share) Closed(name string) {
	name, ok := clean(name)
	if !ok || Hidden(name) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.opened, name)
	if n := s.sources[0].root.find(name); n != nil && n.writing {
		n.writing, n.touched = false, time.Now()
	}
	s.looks[look{s.sources[0], name}] = struct{}{}
	s.wake()
}

// Renamed says that oldName is now newName, which may have existed. What is
// known about it, and below it, stays known.
func (s *Share) Renamed(oldName, newName string) {
	oldName, ok1 := clean(oldName)
	newName, ok2 := clean(newName)
	if !ok1 || !ok2 || oldName == newName {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	root := s.sources[0].root
	for name := range s.opened {
		if rest, ok := below(name, oldName); ok {
			delete(s.opened, name)
			if !Hidden(newName + rest) {
				s.opened[newName+rest] = struct{}{}
			}
		}
	}
	n := root.find(oldName)
	if Hidden(newName) {
		s.dropLocked(n)
		return
	}
	s.looks[look{s.sources[0], newName}] = struct{}{}
	s.wake()
	p := root
	if dir := path.Dir(newName); dir != "." {
		p = root.find(dir)
	}
	if n == nil {
		return
	}
	if p == nil || p.kind != chunk.Folder || n.above(p) {
		s.dropLocked(n) // the look finds it
		return
	}
	base := path.Base(newName)
	s.dropLocked(p.kids[base])
	s.moveLocked(n, p, base)
	n.trust = n.kind == chunk.File
}

// Removed says that the file or folder is gone.
func (s *Share) Removed(name string) {
	name, ok := clean(name)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for open := range s.opened {
		if _, ok := below(open, name); ok {
			delete(s.opened, open)
		}
	}
	s.dropLocked(s.sources[0].root.find(name))
}

// below reports whether name is dir or lies in it, and what follows dir.
func below(name, dir string) (string, bool) {
	rest, ok := strings.CutPrefix(name, dir)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// dropLocked takes n, if not nil, out and forgets it.
func (s *Share) dropLocked(n *node) {
	if n == nil {
		return
	}
	s.detachLocked(n)
	s.forgetLocked(n)
	s.changedLocked()
	s.wake()
}
