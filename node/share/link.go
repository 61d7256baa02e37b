package share

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"wanderfs/cache/chunk"
)

// system are places that are not linked with anything in them, and roots are
// places that are too much at once.
var (
	system = []string{"/proc", "/sys", "/dev", "/etc", "/boot", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}
	roots  = []string{"/", "/usr", "/var", "/run", "/home", "/root", "/tmp", "/opt", "/srv", "/mnt", "/media"}
)

// Link publishes a file or folder where it lies, without a copy, and returns
// the name it gets as an item. It is remembered over restarts; linking it
// again gives the same name. Symlinks above path are followed now and never
// later. It returns before the content is hashed. ErrNotLinkable: the path is
// hidden, part of the system, or around or within what is private.
func (s *Share) Link(path string) (string, error) {
	s.linking.Lock()
	defer s.linking.Unlock()
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("share in place: %w", err)
	}
	if err := s.linkable(abs); err != nil { // before it is touched: it may be our own mount
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", fmt.Errorf("share in place: %w", err)
	}
	if err := s.linkable(real); err != nil {
		return "", err
	}
	fi, err := os.Lstat(real)
	if err != nil {
		return "", fmt.Errorf("share in place: %w", err)
	}
	if !fi.IsDir() && !fi.Mode().IsRegular() {
		return "", fmt.Errorf("%w: neither a file nor a folder", ErrNotLinkable)
	}
	src := &source{dir: filepath.Dir(real), base: filepath.Base(real)}
	s.mu.Lock()
	for _, old := range s.sources[1:] {
		if old.dir == src.dir && old.base == src.base {
			s.mu.Unlock()
			return old.name, nil
		}
	}
	src.name = s.freeNameLocked(filepath.Base(abs))
	src.id = s.nextID
	s.nextID++
	s.mu.Unlock()
	if _, err := s.cat.write.Exec("INSERT INTO links(id, dir, base, name) VALUES(?,?,?,?)",
		src.id, []byte(src.dir), []byte(src.base), []byte(src.name)); err != nil {
		return "", fmt.Errorf("remember link: %w", err)
	}
	s.mu.Lock()
	s.addSourceLocked(src)
	s.mu.Unlock()
	s.lookAt(src, src.base)
	return src.name, nil
}

// linkable refuses what nobody means to publish.
func (s *Share) linkable(p string) error {
	if p == "/" || hiddenPart(filepath.Base(p)) {
		return fmt.Errorf("%w: a hidden name, or everything", ErrNotLinkable)
	}
	for _, r := range roots {
		if p == r {
			return fmt.Errorf("%w: part of the system", ErrNotLinkable)
		}
	}
	for _, r := range system {
		if _, ok := below(p, r); ok {
			return fmt.Errorf("%w: part of the system", ErrNotLinkable)
		}
	}
	if _, ok := below(p, s.dir); ok {
		return fmt.Errorf("%w: it is in the shared directory already", ErrNotLinkable)
	}
	for _, q := range append([]string{s.dir}, s.private...) {
		_, in := below(p, q)
		_, around := below(q, p)
		if in || around {
			return fmt.Errorf("%w: it belongs to the program's own files, or holds them", ErrNotLinkable)
		}
	}
	return nil
}

// freeNameLocked returns name, or one like it that no item has.
func (s *Share) freeNameLocked(name string) string {
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	for i, try := 2, name; ; i++ {
		taken := s.sources[0].root.kids[try] != nil
		for _, src := range s.sources[1:] {
			taken = taken || src.name == try
		}
		if !taken {
			return try
		}
		try = fmt.Sprintf("%s (%d)%s", stem, i, ext)
	}
}

// Unlink ends what Link began. The files stay as they are. An unknown name
// gives an error that wraps os.ErrNotExist.
func (s *Share) Unlink(name string) error {
	s.linking.Lock()
	defer s.linking.Unlock()
	s.mu.Lock()
	var src *source
	for _, l := range s.sources[1:] {
		if l.name == name {
			src = l
		}
	}
	s.mu.Unlock()
	if src == nil {
		return fmt.Errorf("end sharing in place: %w", os.ErrNotExist)
	}
	if _, err := s.cat.write.Exec("DELETE FROM links WHERE id=?", src.id); err != nil {
		return fmt.Errorf("end sharing in place: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	src.dropped = true
	for i, l := range s.sources {
		if l == src {
			s.sources = append(s.sources[:i:i], s.sources[i+1:]...)
			break
		}
	}
	for _, n := range src.root.kids {
		s.dropLocked(n)
	}
	return nil
}

// Links returns what is published in place: items' names and the absolute
// paths they stand for.
func (s *Share) Links() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := map[string]string{}
	for _, src := range s.sources[1:] {
		m[src.name] = filepath.Join(src.dir, src.base)
	}
	return m
}

var _ chunk.Sink = (*blocks)(nil)
