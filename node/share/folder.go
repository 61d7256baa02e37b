package share

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"wanderfs/cache/chunk"
)

// encoding is a folder that is to be encoded again.
type encoding struct {
	n       *node
	version uint64
	sum     [2]uint64
	entries []chunk.Entry
	entry   chunk.Entry
	blocks  *blocks
	err     error
}

// settleFolders encodes every folder below which something changed and
// nothing is waited for, from the inside out.
func (s *Share) settleFolders() {
	for s.ctx.Err() == nil {
		s.mu.Lock()
		var todo []*encoding
		for _, src := range s.sources {
			s.resolveLocked(src.root, &todo)
		}
		s.mu.Unlock()
		if len(todo) == 0 {
			return
		}
		for _, e := range todo {
			e.blocks = &blocks{}
			e.entry, e.err = chunk.EncodeFolder(e.entries, e.blocks)
			e.entries = nil
		}
		if !s.installFolders(todo) {
			return
		}
	}
}

// resolveLocked reports whether all below n is settled. Folders that need
// encoding are added to todo, at most a batch.
func (s *Share) resolveLocked(n *node, todo *[]*encoding) bool {
	if !n.dirty {
		return true
	}
	clean := true
	for _, k := range n.kids {
		switch {
		case len(*todo) >= batch:
			return false
		case k.kind == chunk.Folder && k.state == failed:
			// left out, as is a file that cannot be read
		case k.kind == chunk.Folder:
			clean = s.resolveLocked(k, todo) && clean
		case k.state == pending:
			clean = false
		}
	}
	if n.isRoot() {
		n.dirty = !clean
		return clean
	}
	if !clean {
		return false
	}
	sum := n.sumKids()
	if sum == n.sum && !n.entry.Ref.IsZero() && !n.must {
		n.dirty = false
		if n.state != ready {
			n.state = ready
			s.changedLocked()
		}
		return true
	}
	e := &encoding{n: n, version: n.version, sum: sum}
	for _, k := range n.kids {
		if k.state == ready {
			entry := k.entry
			entry.Name = k.name
			e.entries = append(e.entries, entry)
		}
	}
	slices.SortFunc(e.entries, func(a, b chunk.Entry) int { return strings.Compare(a.Name, b.Name) })
	*todo = append(*todo, e)
	return false
}

// sumKids tells whether a folder's encoding is still right: a sum, in no
// order, over its entries.
func (n *node) sumKids() (sum [2]uint64) {
	sum[0] = 1 // an empty folder differs from one never encoded
	var b []byte
	for _, k := range n.kids {
		if k.state != ready {
			continue
		}
		b = append(b[:0], k.name...)
		b = append(b, 0)
		b = binary.BigEndian.AppendUint64(b, uint64(k.entry.Total))
		b = append(b, k.entry.Ref.CID().KeyString()...)
		h := sha256.Sum256(b)
		sum[0] += binary.BigEndian.Uint64(h[:])
		sum[1] += binary.BigEndian.Uint64(h[8:])
	}
	return sum
}

// installFolders writes the encodings down and then into the tree. It reports
// whether that worked.
func (s *Share) installFolders(done []*encoding) bool {
	s.mu.Lock()
	var good []*encoding
	for _, e := range done {
		if e.n.version != e.version || !e.n.live() {
			continue // changed since; the next turn takes it
		}
		if e.err != nil {
			e.n.state, e.n.err, e.n.dirty = failed, reason(e.err), false
			e.n.markDirty()
			continue
		}
		good = append(good, e)
	}
	s.chooseFolderGroupsLocked(good)
	changes := s.changes
	s.changes = nil
	kept := len(changes)
	for _, e := range good {
		n := *e.n
		n.entry, n.sum = e.entry, e.sum
		b := e.blocks
		if e.n.entry.Ref == e.entry.Ref {
			b = nil
		}
		changes = append(changes, n.change(b))
	}
	defer s.mu.Unlock()
	err := s.applyLocked(changes)
	if err != nil {
		s.changes = append(changes[:kept:kept], s.changes...)
		return false
	}
	for _, e := range good {
		n := e.n
		if !n.live() {
			s.changes = append(s.changes, change{row: row{id: n.id}})
			continue
		}
		// Also if it changed since: it is a true, if old, encoding, and the
		// catalogue has it.
		e.entry.Name = ""
		n.entry, n.sum, n.must = e.entry, e.sum, false
		if n.version == e.version {
			n.dirty = false
		}
		n.state, n.err = ready, ""
		n.parent.markNews()
		s.changedLocked()
	}
	return true
}

// markNews says that a folder below n has a new encoding.
func (n *node) markNews() {
	for p := n; p != nil; p = p.parent {
		p.dirty = true
		p.version++
	}
}
