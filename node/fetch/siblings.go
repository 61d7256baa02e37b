package fetch

import (
	"cmp"
	"slices"
	"sync"

	"wanderfs/cache/chunk"
)

// Limits of what is remembered of folders, ours.
const (
	maxListed   = 1 << 16 // entries of one folder; a larger one is not remembered
	maxListings = 256     // orders of folders
	maxEntries  = 1 << 17 // entries of all of them, about 100 bytes each
	nearEntry   = 4       // an entry so little further on is the next one: between them lie folders and links
)

// siblings remembers in which order folders list their files, so that who
// reads them one after the other need not wait a round trip for each. Listing
// asks for nothing; only the second file that is read in order does.
type siblings struct {
	mu      sync.Mutex
	orders  []*order // the longest known first; guarded by mu
	entries int      // of all orders; guarded by mu
}

// order is one folder's files in one order. Guarded by siblings.mu.
type order struct {
	root, dir chunk.Ref
	named     bool // by name, else as the blocks list them
	refs      []chunk.Ref
	sizes     []int64 // bytes of the first block at most, as the folder claims
	at        map[chunk.Ref]int
	last      int // index read last; -1 before
	run       int // read in order, the first not counted
	upto      int // index behind the last that was asked for
}

// listed notes the entries of a folder below root, as its blocks list them.
func (s *siblings) listed(root, dir chunk.Ref, entries []chunk.Entry) {
	if len(entries) < 2 || len(entries) > maxListed {
		return
	}
	list := []*order{newOrder(root, dir, entries, false)}
	byName := func(a, b chunk.Entry) int { return cmp.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(entries, byName) { // a sharded folder: drives list it by name
		entries = slices.SortedFunc(slices.Values(entries), byName)
		list = append(list, newOrder(root, dir, entries, true))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range list {
		i := slices.IndexFunc(s.orders, func(x *order) bool {
			return x.root == root && x.dir == dir && x.named == o.named
		})
		if i >= 0 { // content does not change; keep where its reader is
			o = s.orders[i]
			s.orders = slices.Delete(s.orders, i, i+1)
		} else {
			s.entries += len(o.refs)
		}
		s.orders = append(s.orders, o)
	}
	for len(s.orders) > maxListings || s.entries > maxEntries {
		s.entries -= len(s.orders[0].refs)
		s.orders = slices.Delete(s.orders, 0, 1)
	}
}

func newOrder(root, dir chunk.Ref, entries []chunk.Entry, named bool) *order {
	o := &order{root: root, dir: dir, named: named, at: make(map[chunk.Ref]int, len(entries)), last: -1}
	for _, e := range entries {
		if e.Kind != chunk.File && e.Kind != chunk.Unknown {
			continue
		}
		if _, twice := o.at[e.Ref]; !twice {
			o.at[e.Ref] = len(o.refs)
		}
		o.refs = append(o.refs, e.Ref)
		o.sizes = append(o.sizes, min(max(e.Total, 1), chunk.Size))
	}
	return o
}

// next is what will be read soon of one order.
type next struct {
	order *order
	refs  []chunk.Ref
	sizes map[chunk.Ref]int64
}

// reading notes that r below root is being read, and returns what will be
// next if files were read in order: at most count of them.
func (s *siblings) reading(root, r chunk.Ref, count int) (list []next) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.orders {
		if o.root != root {
			continue
		}
		i, ok := o.find(r)
		if !ok || i == o.last {
			continue
		}
		if o.last >= 0 && i > o.last && i <= o.last+nearEntry {
			o.run++
		} else {
			o.run, o.upto = 0, 0
		}
		o.last = i
		n := min(count, 2<<min(o.run, 16))
		if o.run == 0 || o.upto == len(o.refs) || o.upto-i > n/2 {
			continue // a single file, all is asked for, or enough
		}
		o.upto = min(i+1+n, len(o.refs))
		x := next{order: o, refs: o.refs[i+1 : o.upto : o.upto], sizes: make(map[chunk.Ref]int64, n)}
		for k := i + 1; k < o.upto; k++ {
			x.sizes[o.refs[k]] = o.sizes[k]
		}
		list = append(list, x)
	}
	return list
}

// find returns where r is: one file may have several names.
func (o *order) find(r chunk.Ref) (int, bool) {
	for i := o.last + 1; i < min(o.last+1+nearEntry, len(o.refs)); i++ {
		if o.refs[i] == r {
			return i, true
		}
	}
	i, ok := o.at[r]
	return i, ok
}
