package share

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"wanderfs/cache/chunk"
)

// Phases of a name in the shared directory. Kept names stay local.
const (
	PhaseHashing   = "hashing"   // changed lately, in the queue, or being hashed
	PhaseWaiting   = "waiting"   // can be given, not yet found by others
	PhasePublished = "published" // can be found
	PhaseError     = "error"     // cannot be published; Err says why
	PhaseKept      = "kept"      // hidden, temporary, or a symlink that leads out
)

// Item is a file or folder that should be found.
type Item struct {
	Name      string // slash name below the shared directory, raw bytes
	Entry     chunk.Entry
	Group     int
	Published bool
}

// State is what can be said about one name. Phase is empty if there is no
// such file.
type State struct {
	Ref   chunk.Ref // zero until it is computed
	Phase string
	Err   string
}

// Stats sums up. Files and Bytes count files, also those not hashed yet.
type Stats struct {
	Files, Bytes, Hashing, Published int64
	Errors                           []string // with names, for the user's eyes only; at most 64
}

// Items returns everything that should be found, every file and folder at
// every level, in the order of names. The slice is shared: callers must not
// write to it.
func (s *Share) Items() []Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items != nil {
		return s.items
	}
	now := time.Now()
	items := []Item{}
	var walk func(n *node, name string, group int)
	walk = func(n *node, name string, group int) {
		if n.kind != chunk.Symlink && n.state == ready && !n.entry.Ref.IsZero() {
			e := n.entry
			e.Name = n.name
			items = append(items, Item{name, e, group, s.until[e.Ref].After(now)})
		}
		for _, k := range n.kids {
			walk(k, name+"/"+k.name, group)
		}
	}
	for _, src := range s.sources {
		for _, top := range src.root.kids {
			if top.group >= 0 {
				walk(top, top.name, top.group)
			}
		}
	}
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.Name, b.Name) })
	s.items = items
	return items
}

// MarkPublished notes that refs can be found until then. It is not remembered
// over a restart: sessions end with the process.
func (s *Share) MarkPublished(refs []chunk.Ref, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range refs {
		if until.After(s.until[r]) {
			s.until[r] = until
		}
	}
	s.items = nil
}

// State says how far the name is. It may look at the disk, briefly.
func (s *Share) State(name string) State {
	name, ok := clean(name)
	if !ok {
		return State{}
	}
	s.mu.Lock()
	shared := s.sources[0]
	n := shared.root.find(name)
	for _, src := range s.sources[1:] {
		if n == nil {
			n = src.root.find(name)
		}
	}
	if n != nil {
		defer s.mu.Unlock()
		return s.stateLocked(n)
	}
	s.mu.Unlock()
	root, err := shared.open()
	if err != nil {
		return State{}
	}
	defer func() { _ = root.Close() }()
	fi, err := root.Lstat(name)
	switch {
	case err != nil:
		return State{}
	case Hidden(name) || !fi.IsDir() && !fi.Mode().IsRegular() && fi.Mode().Type() != os.ModeSymlink:
		return State{Phase: PhaseKept}
	case fi.Mode().Type() == os.ModeSymlink:
		target, err := root.Readlink(name)
		dir, _, nested := cutLast(name)
		if err != nil || !nested || !inside(dir, target) {
			return State{Phase: PhaseKept}
		}
	}
	return State{Phase: PhaseHashing} // not looked at yet
}

func cutLast(name string) (dir, base string, ok bool) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

func (s *Share) stateLocked(n *node) State {
	switch {
	case n.state == failed:
		return State{Phase: PhaseError, Err: n.err}
	case n.state != ready || n.dirty || n.entry.Ref.IsZero():
		return State{Phase: PhaseHashing}
	case s.until[n.entry.Ref].After(time.Now()):
		return State{Ref: n.entry.Ref, Phase: PhasePublished}
	}
	return State{Ref: n.entry.Ref, Phase: PhaseWaiting}
}

// Stats counts what is shared.
func (s *Share) Stats() Stats {
	limited := s.watch.isLimited()
	s.mu.Lock()
	defer s.mu.Unlock()
	var st Stats
	now := time.Now()
	for what, why := range s.notes {
		st.Errors = append(st.Errors, what+": "+why)
	}
	if limited {
		st.Errors = append(st.Errors, "too many folders to watch: changes are noticed later")
	}
	more := 0
	for _, src := range s.sources {
		if src.err != "" {
			st.Errors = append(st.Errors, fmt.Sprintf("%q: %s", src.shown(), src.err))
		}
		src.root.each(func(n *node) {
			if n.state == failed {
				if len(st.Errors) < maxErrors-1 {
					st.Errors = append(st.Errors, fmt.Sprintf("%q: %s", n.path(), n.err))
				} else {
					more++
				}
			}
			if n.kind != chunk.File {
				return
			}
			st.Files++
			st.Bytes += n.stat.size
			if n.state == pending {
				st.Hashing++
			} else if n.state == ready && s.until[n.entry.Ref].After(now) {
				st.Published++
			}
		})
	}
	if more > 0 {
		st.Errors = append(st.Errors, fmt.Sprintf("and %d more", more))
	}
	return st
}

// shown is how a source is called in errors.
func (src *source) shown() string {
	if src.base == "" {
		return "shared"
	}
	return src.name
}
