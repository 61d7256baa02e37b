package share

import (
	"database/sql"
	"errors"
	"fmt"

	"wanderfs/cache/chunk"
)

// A session answers for one group of shares, so that what one user shares is
// not one bundle. A top-level item is put into the emptiest group when it is
// first hashed, and stays.

// chooseGroupsLocked gives groups to the top-level items of rs.
func (s *Share) chooseGroupsLocked(rs []result) {
	var load *loads
	for _, r := range rs {
		top := r.n.top()
		if top.group < 0 {
			load = s.chooseLocked(load, top)
		}
		if load != nil {
			load.bytes[top.group] += r.entry.Size
		}
	}
}

func (s *Share) chooseFolderGroupsLocked(es []*encoding) {
	var load *loads
	for _, e := range es {
		if top := e.n.top(); top.group < 0 {
			load = s.chooseLocked(load, top) // empty folders only
		}
	}
}

// loads is what the groups hold.
type loads struct{ bytes, items [maxGroups]int64 }

func (s *Share) chooseLocked(load *loads, top *node) *loads {
	if load == nil {
		load = s.loadsLocked()
	}
	best := 0
	for g := 1; g < s.cfg.Groups; g++ {
		if load.bytes[g] < load.bytes[best] || load.bytes[g] == load.bytes[best] && load.items[g] < load.items[best] {
			best = g
		}
	}
	load.items[best]++
	top.group = best
	if top.kind == chunk.Folder {
		s.putLocked(top, nil)
	}
	return load
}

func (s *Share) loadsLocked() *loads {
	load := new(loads)
	for _, src := range s.sources {
		for _, top := range src.root.kids {
			if top.group < 0 {
				continue
			}
			load.items[top.group]++
			top.each(func(n *node) { load.bytes[top.group] += n.entry.Size })
		}
	}
	return load
}

// GroupState returns what SetGroupState kept for group i, nil if nothing.
func (s *Share) GroupState(i int) []byte {
	var b []byte
	if err := s.cat.read.QueryRow("SELECT state FROM groups WHERE i=?", i).Scan(&b); err != nil {
		return nil
	}
	return b
}

// SetGroupState keeps b, which only the caller understands, for group i. It
// survives restarts. nil forgets it.
func (s *Share) SetGroupState(i int, b []byte) error {
	if i < 0 || i >= maxGroups {
		return errors.New("no such group")
	}
	var err error
	if b == nil {
		_, err = s.cat.write.Exec("DELETE FROM groups WHERE i=?", i)
	} else {
		_, err = s.cat.write.Exec("INSERT OR REPLACE INTO groups(i, state) VALUES(?,?)", i, b)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("keep group: %w", err)
	}
	return nil
}

// Groups returns the numbers of the groups that hold something.
func (s *Share) Groups() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	load := s.loadsLocked()
	var out []int
	for g, n := range load.items {
		if n > 0 {
			out = append(out, g)
		}
	}
	return out
}
