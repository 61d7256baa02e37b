package share

import (
	"context"
	"strings"
	"time"

	"wanderfs/cache/chunk"
)

type phase uint8

const (
	pending phase = iota // not known yet, or no longer
	ready                // in the catalogue, can be given
	failed               // could not be read; err says why
	kept                 // never published
)

// source is a place on disk that items come from: the shared directory, or
// the folder that holds a linked file or folder.
type source struct {
	id      int64  // of root; 0 for the shared directory
	dir     string // absolute, without symlinks
	base    string // links only: the one name in dir that is published
	name    string // links only: how the item is called
	root    *node  // its kids are top-level items; not published itself
	err     string // why the place cannot be read
	dropped bool   // unlinked
}

// node is a file, folder or symlink that is, or may be, published. All fields
// are guarded by Share.mu; id and kind never change.
type node struct {
	id     int64
	kind   chunk.Kind
	name   string
	parent *node   // nil for a source's root, and once detached
	src    *source // of a source's root only
	kids   map[string]*node

	stat  stat        // as last seen on disk
	entry chunk.Entry // last one computed; Ref zero before
	state phase
	err   string
	group int // top-level items only; -1 before it is chosen

	gen     uint64    // counts withdrawals
	must    bool      // hash even if stat did not change
	trust   bool      // the drive renamed it: a new ctime is no change
	racy    bool      // hashed too soon after a change to trust stat
	writing bool      // somebody has it open for writing on the drive
	touched time.Time // last change that we were told of
	queued  bool
	job     *job // being hashed

	// folders
	dirty   bool   // something below changed; then every ancestor is dirty too
	version uint64 // counts changes of dirty
	sum     [2]uint64
	pass    uint64 // of the last walk that saw it
}

// isRoot reports whether n is a source's root.
func (n *node) isRoot() bool { return n.src != nil }

// at is where a folder is; it never changes.
func (n *node) at() inode { return inode{n.stat.dev, n.stat.ino} }

// live reports whether n is still in the tree.
func (n *node) live() bool {
	for n.parent != nil {
		n = n.parent
	}
	return n.isRoot() && !n.src.dropped
}

// top returns the top-level item that n belongs to.
func (n *node) top() *node {
	for n.parent != nil && !n.parent.isRoot() {
		n = n.parent
	}
	return n
}

// place returns n's source and its name on disk below the source's dir.
func (n *node) place() (*source, string) {
	var parts []string
	for n.parent != nil {
		name := n.name
		if p := n.parent; p.isRoot() && p.src.base != "" {
			name = p.src.base
		}
		parts = append(parts, name)
		n = n.parent
	}
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	if len(parts) == 0 {
		return n.src, "."
	}
	return n.src, strings.Join(parts, "/")
}

// path returns n's slash name as the user sees it.
func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	if n.parent.isRoot() {
		return n.name
	}
	return n.parent.path() + "/" + n.name
}

func (n *node) depth() int {
	d := 0
	for ; n.parent != nil; n = n.parent {
		d++
	}
	return d
}

// find returns the node with a name as on disk below src, or nil.
func (src *source) find(rel string) *node {
	if src.base == "" {
		return src.root.find(rel)
	}
	n := src.root.kids[src.name]
	first, rest, more := strings.Cut(rel, "/")
	if n == nil || first != src.base {
		return nil
	}
	if !more {
		return n
	}
	return n.find(rest)
}

// find returns the node with a slash name below n, or nil.
func (n *node) find(name string) *node {
	for part := range strings.SplitSeq(name, "/") {
		if n = n.kids[part]; n == nil {
			return nil
		}
	}
	return n
}

// each calls fn for n and everything below.
func (n *node) each(fn func(*node)) {
	fn(n)
	for _, k := range n.kids {
		k.each(fn)
	}
}

// markDirty says that the folders above n are to be encoded again.
func (n *node) markDirty() {
	for p := n.parent; p != nil; p = p.parent {
		p.dirty = true
		p.version++
	}
}

// withdraw makes n one that is given to nobody until it has been hashed again.
func (n *node) withdraw() {
	n.must = true
	n.gen++
	if n.job != nil {
		n.job.cancel()
		n.job = nil
	}
	if n.state != pending {
		n.state = pending
		n.err = ""
		n.markDirty()
	}
}

// job is one file being hashed.
type job struct {
	n      *node
	id     int64
	src    *source
	name   string // below src
	kind   chunk.Kind
	stat   stat
	target string
	ctx    context.Context
	cancel context.CancelFunc
}
