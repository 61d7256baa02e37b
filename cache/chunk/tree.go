package chunk

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path"
	"strings"
)

// ErrSpecial says that a name is no file, folder or symlink, or a symlink that
// leads out of what is imported.
var ErrSpecial = errors.New("not a file, folder or inner symlink")

// ImportTree imports name, a file, a folder with all below it, or a symlink,
// from root, such as os.Root's FS: then no symlink leads out of it. Hidden
// entries (".x"), devices, sockets, pipes and symlinks that lead out of name
// are left out. sinks, called with each path below root, returns where that
// path's blocks go; it and what it returns may be nil. The Entry has the base
// name of name, unless that is ".".
func ImportTree(ctx context.Context, root iofs.FS, name string, sinks func(path string) Sink) (Entry, error) {
	t := tree{root: root, top: name, sinks: sinks}
	if sinks == nil {
		t.sinks = func(string) Sink { return nil }
	}
	info, err := iofs.Lstat(root, name)
	if err != nil {
		return Entry{}, fmt.Errorf("look at source: %w", bare(err))
	}
	e, err := t.any(ctx, name, info.Mode().Type(), 0)
	if base := path.Base(name); err == nil && base != "." {
		e.Name = base
	}
	return e, err
}

type tree struct {
	root  iofs.FS
	top   string
	sinks func(string) Sink
}

func (t *tree) any(ctx context.Context, name string, mode iofs.FileMode, depth int) (Entry, error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, err
	}
	switch mode {
	case 0:
		return t.file(ctx, name)
	case iofs.ModeDir:
		if depth == treeDepth {
			return Entry{}, errors.New("folders too deep")
		}
		return t.folder(ctx, name, depth)
	case iofs.ModeSymlink:
		target, err := iofs.ReadLink(t.root, name)
		if err != nil {
			return Entry{}, fmt.Errorf("read symlink: %w", bare(err))
		}
		dir := "."
		if name != t.top {
			dir = path.Dir(strings.TrimPrefix(strings.TrimPrefix(name, t.top), "/"))
			if t.top == "." {
				dir = path.Dir(name)
			}
		}
		if !TargetInside(dir, target) {
			return Entry{}, ErrSpecial
		}
		return EncodeSymlink(target, t.sinks(name))
	}
	return Entry{}, ErrSpecial
}

func (t *tree) file(ctx context.Context, name string) (Entry, error) {
	f, err := t.root.Open(name)
	if err != nil {
		return Entry{}, fmt.Errorf("open file: %w", bare(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Entry{}, fmt.Errorf("look at file: %w", bare(err))
	}
	if !info.Mode().IsRegular() {
		return Entry{}, ErrSpecial
	}
	var e Entry
	if at, ok := f.(io.ReaderAt); ok {
		e, err = ImportFile(ctx, at, info.Size(), t.sinks(name))
	} else {
		e, err = ImportReader(ctx, f, t.sinks(name))
	}
	return e, bare(err)
}

func (t *tree) folder(ctx context.Context, name string, depth int) (Entry, error) {
	list, err := iofs.ReadDir(t.root, name)
	if err != nil {
		return Entry{}, fmt.Errorf("list folder: %w", bare(err))
	}
	entries := make([]Entry, 0, len(list))
	for _, d := range list {
		if Hidden(d.Name()) {
			continue
		}
		e, err := t.any(ctx, path.Join(name, d.Name()), d.Type(), depth+1)
		if errors.Is(err, ErrSpecial) {
			continue
		}
		if err != nil {
			return Entry{}, err
		}
		e.Name = d.Name()
		entries = append(entries, e)
	}
	return EncodeFolder(entries, t.sinks(name))
}

// Hidden reports whether a name is hidden, and so never published.
func Hidden(name string) bool { return strings.HasPrefix(name, ".") }

// bare takes the file's name out of err: names of shared files do not belong
// into logs.
func bare(err error) error {
	if p := (*iofs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}
