package share

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"wanderfs/cache/chunk"
)

// seen is one name in a directory, as it was just now.
type seen struct {
	name   string
	kind   chunk.Kind
	stat   stat
	target string // of a symlink
}

// scan is one walk over a part of a source. What appeared and what vanished
// are matched at its end, so that a move costs no hashing.
type scan struct {
	s     *Share
	src   *source
	now   time.Time
	pass  uint64
	fresh []*node // files that nobody knew
	gone  []*node
}

func (s *Share) newScan(src *source) *scan {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass++
	return &scan{s: s, src: src, now: time.Now(), pass: s.pass}
}

// scanSource looks at all of src.
func (s *Share) scanSource(src *source) {
	w := s.newScan(src)
	root, err := src.open()
	if err == nil {
		defer func() { _ = root.Close() }()
		if src.base == "" {
			err = w.folder(root, src.root, ".", 0)
		} else {
			err = w.one(root, src.base)
		}
	}
	s.mu.Lock()
	src.err = ""
	if err != nil {
		src.err = reason(err)
		// The disk may come back: rows stay, nothing is given meanwhile.
		src.root.each(func(n *node) {
			if n.kind != chunk.Folder {
				must := n.must || n.entry.Ref.IsZero()
				n.withdraw()
				n.must = must
			} else if n.state == ready {
				n.state = pending
				n.dirty = true
			}
		})
		s.changedLocked()
	}
	s.mu.Unlock()
	w.end()
}

// open returns the source's directory. A path that meanwhile leads through a
// symlink is not followed.
func (src *source) open() (*os.Root, error) {
	if src.base != "" {
		if real, err := filepath.EvalSymlinks(src.dir); err != nil {
			return nil, err
		} else if real != src.dir {
			return nil, errors.New("a folder above it became a symlink")
		}
	}
	return os.OpenRoot(src.dir)
}

// folder lists the directory rel, which is n, and everything below it.
func (w *scan) folder(root *os.Root, n *node, rel string, depth int) error {
	if err := w.s.ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		return w.fail(n, errors.New("too many folders in each other"))
	}
	list, st, err := w.list(root, rel)
	if !n.isRoot() && (errors.Is(err, os.ErrNotExist) || err == nil && inode{st.dev, st.ino} != n.at()) {
		return nil // moved or removed meanwhile: there was an event, or the next look tells
	}
	if err != nil {
		return w.fail(n, err)
	}
	w.s.mu.Lock()
	if !n.live() {
		w.s.mu.Unlock()
		return nil
	}
	if n.err != "" {
		n.err, n.state = "", pending
		n.dirty = true
		n.markDirty()
	}
	names := make(map[string]bool, len(list))
	type folder struct {
		n    *node
		name string
	}
	var below []folder
	for _, e := range list {
		if k := w.mergeLocked(n, e); k != nil {
			names[e.name] = true
			if k.kind == chunk.Folder {
				below = append(below, folder{k, e.name})
			}
		}
	}
	for name, k := range n.kids {
		if !names[name] {
			w.loseLocked(k)
		}
	}
	w.s.mu.Unlock()
	for _, k := range below {
		if err := w.folder(root, k.n, path.Join(rel, k.name), depth+1); err != nil && w.s.ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// fail notes that folder n cannot be read; what was in it is withdrawn. For
// the source's root the error is the caller's.
func (w *scan) fail(n *node, err error) error {
	if n.isRoot() || w.s.ctx.Err() != nil {
		return err
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for _, k := range n.kids {
		w.loseLocked(k)
	}
	if n.state != failed {
		n.state = failed
		n.markDirty()
	}
	n.err = reason(err)
	return err
}

// one looks at the single name rel of the source, and below it.
func (w *scan) one(root *os.Root, rel string) error {
	n := w.nodeOf(path.Dir(rel))
	if n == nil {
		return nil // a folder above is new, hidden or gone: its own look tells
	}
	f, err := root.OpenFile(path.Dir(rel), openDir, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) && w.src.base == "" {
			return nil
		}
		return err
	}
	name := path.Base(rel)
	if w.src.base != "" && n.isRoot() {
		if st, _, err := fstat(f); err == nil {
			w.s.watch.add(inode{st.dev, st.ino}, w.src.dir)
		}
	}
	e, err := w.stat(f, name)
	_ = f.Close()
	if w.src.base != "" && path.Dir(rel) == "." {
		name = w.src.name
		e.name = name
	}
	w.s.mu.Lock()
	if !n.live() {
		w.s.mu.Unlock()
		return nil
	}
	k := n.kids[name]
	if err != nil {
		defer w.s.mu.Unlock()
		if errors.Is(err, os.ErrNotExist) && !n.isRoot() || w.src.base == "" {
			if k != nil {
				w.loseLocked(k)
			}
			return nil
		}
		return err
	}
	k2 := w.mergeLocked(n, e)
	if k2 == nil && k != nil {
		w.loseLocked(k)
	}
	depth := n.depth() + 1
	w.s.mu.Unlock()
	if k2 != nil && k2.kind == chunk.Folder {
		return w.folder(root, k2, rel, depth)
	}
	return nil
}

// nodeOf finds the folder rel, as on disk.
func (w *scan) nodeOf(rel string) *node {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	n := w.src.root
	if rel != "." {
		n = w.src.find(rel)
	}
	if n == nil || n.kind != chunk.Folder {
		return nil
	}
	return n
}

// list reads the directory rel without what is hidden.
func (w *scan) list(root *os.Root, rel string) ([]seen, stat, error) {
	f, err := root.OpenFile(rel, openDir, 0)
	if err != nil {
		return nil, stat{}, err
	}
	defer func() { _ = f.Close() }()
	st, _, err := fstat(f)
	if err != nil {
		return nil, stat{}, err
	}
	w.s.watch.add(inode{st.dev, st.ino}, filepath.Join(w.src.dir, rel)) // first, so that nothing is missed in between
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, stat{}, err
	}
	out := make([]seen, 0, len(names))
	for _, name := range names {
		if hiddenPart(name) || w.s.private != nil && w.s.avoid(w.src.dir, rel, name) {
			continue
		}
		e, err := w.stat(f, name)
		if err != nil {
			continue // it vanished since
		}
		out = append(out, e)
	}
	return out, st, nil
}

// avoid reports whether the name is one of the private directories: the
// program never touches its own mount.
func (s *Share) avoid(dir, rel, name string) bool {
	for _, p := range s.private {
		if filepath.Base(p) == name && p == filepath.Join(dir, rel, name) {
			return true
		}
	}
	return false
}

func (w *scan) stat(dir *os.File, name string) (seen, error) {
	st, kind, err := lstatAt(dir, name)
	e := seen{name: name, kind: kind, stat: st}
	if err == nil && kind == chunk.Symlink {
		e.target, err = readlinkAt(dir, name)
	}
	return e, err
}

// reason is an error's cause without the path, for the user's eyes.
func reason(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return fmt.Sprint(err)
}
