package share

import (
	"context"
	"fmt"

	"wanderfs/cache/chunk"
)

// load builds the tree from the catalogue. Nothing in it is given before it
// has been compared with the disk.
func (s *Share) load(ctx context.Context) error {
	s.addSourceLocked(&source{dir: s.dir})
	if err := s.loadLinks(ctx); err != nil {
		return err
	}
	rows, err := s.cat.rows(ctx)
	if err != nil {
		return err
	}
	parents := make(map[int64]*node, len(rows)+1)
	for _, src := range s.sources {
		parents[src.id] = src.root
	}
	nodes := make([]*node, len(rows))
	for i, r := range rows {
		n := &node{id: r.id, kind: r.kind, name: r.name, group: -1, dirty: r.kind == chunk.Folder}
		s.nextID = max(s.nextID, r.id+1)
		if err := n.parse(r.data); err != nil {
			n.entry = chunk.Entry{Kind: r.kind} // as if never hashed
			n.must = true
		}
		nodes[i] = n
		if r.kind == chunk.Folder {
			parents[r.id] = n
		}
	}
	for i, r := range rows {
		p, n := parents[r.parent], nodes[i]
		if p == nil || p == n || p.kids[r.name] != nil {
			s.forgetLocked(n)
			continue
		}
		s.attachLocked(p, n)
	}
	for _, n := range nodes { // a cycle, or below what was dropped
		if n.parent != nil && n.depth() <= maxDepth+1 && n.live() {
			continue
		}
		if n.parent != nil {
			delete(n.parent.kids, n.name)
			n.parent = nil
		}
		s.forgetLocked(n)
	}
	return nil
}

func (s *Share) loadLinks(ctx context.Context) error {
	rs, err := s.cat.write.QueryContext(ctx, "SELECT id, dir, base, name FROM links ORDER BY id")
	if err != nil {
		return fmt.Errorf("read links: %w", err)
	}
	defer func() { _ = rs.Close() }()
	for rs.Next() {
		var id int64
		var dir, base, name []byte
		if err := rs.Scan(&id, &dir, &base, &name); err != nil {
			return fmt.Errorf("read links: %w", err)
		}
		s.addSourceLocked(&source{id: id, dir: string(dir), base: string(base), name: string(name)})
		s.nextID = max(s.nextID, id+1)
	}
	return rs.Err()
}

func (s *Share) addSourceLocked(src *source) {
	src.root = &node{id: src.id, kind: chunk.Folder, src: src, kids: map[string]*node{}, group: -1}
	s.sources = append(s.sources, src)
}

// attachLocked puts n below p and makes it known.
func (s *Share) attachLocked(p, n *node) {
	n.parent = p
	if p.kids == nil {
		p.kids = map[string]*node{}
	}
	p.kids[n.name] = n
	s.byID[n.id] = n
	if n.kind == chunk.Folder {
		if n.kids == nil {
			n.kids = map[string]*node{}
		}
		if n.stat.ino != 0 {
			s.byInode[inode{n.stat.dev, n.stat.ino}] = n
		}
	}
}

// newLocked makes a node below p.
func (s *Share) newLocked(p *node, name string, kind chunk.Kind, st stat) *node {
	n := &node{id: s.nextID, kind: kind, name: name, stat: st, group: -1, must: true, dirty: kind == chunk.Folder}
	s.nextID++
	s.attachLocked(p, n)
	n.markDirty()
	if kind == chunk.Folder {
		s.putLocked(n, nil)
	}
	return n
}

// detachLocked takes n with all below out of the tree. The rows stay until
// forgetLocked.
func (s *Share) detachLocked(n *node) {
	if n.parent == nil {
		return
	}
	n.markDirty()
	delete(n.parent.kids, n.name)
	n.parent = nil
	n.each(func(k *node) {
		delete(s.byID, k.id)
		if k.job != nil {
			k.job.cancel()
			k.job = nil
		}
		if at := (inode{k.stat.dev, k.stat.ino}); s.byInode[at] == k {
			delete(s.byInode, at)
		}
	})
}

// forgetLocked removes n and all below from the catalogue.
func (s *Share) forgetLocked(n *node) {
	n.each(func(k *node) { s.changes = append(s.changes, change{row: row{id: k.id}}) })
}

// putLocked writes n's row, with b its blocks.
func (s *Share) putLocked(n *node, b *blocks) {
	s.changes = append(s.changes, n.change(b))
}

func (n *node) change(b *blocks) change {
	return change{row: row{id: n.id, parent: n.parent.id, name: n.name, kind: n.kind, data: n.record()}, blocks: b}
}
