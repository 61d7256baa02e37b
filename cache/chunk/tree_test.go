package chunk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/iotest"
)

// write makes files and folders (names that end in a slash) below a new folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(full, 0o755); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestImportTree(t *testing.T) {
	dir := write(t, map[string]string{
		"top/a.txt": "a", "top/sub/b.txt": "bb", "top/empty/": "", "top/.hidden": "no", "top/.git/config": "no", "beside": "no",
	})
	for name, target := range map[string]string{
		"top/in": "sub/b.txt", "top/dangling": "nowhere", "top/out": "../beside", "top/abs": "/etc/passwd",
		"top/sub/up": "../a.txt", "top/sub/upup": "../../beside",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "top/pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	want := item{folder: map[string]item{
		"a.txt": file([]byte("a")), "empty": {folder: map[string]item{}},
		"in": {target: "sub/b.txt"}, "dangling": {target: "nowhere"},
		"sub": {folder: map[string]item{"b.txt": file([]byte("bb")), "up": {target: "../a.txt"}}},
	}}
	m := newStore()
	paths := map[string]bool{}
	got, err := ImportTree(t.Context(), root.FS(), "top", func(p string) Sink { paths[p] = true; return m })
	if err != nil {
		t.Fatal(err)
	}
	if e := want.own(t, profile, nil); got.Ref != e.Ref || got.Total != e.Total || got.Name != "top" {
		t.Errorf("got another tree than written, named %q", got.Name)
	}
	if !paths["top"] || !paths["top/sub/b.txt"] || paths["top/.hidden"] {
		t.Errorf("got sinks for %v", paths)
	}
	// As a root of its own the same folder is the same content.
	sub, err := root.OpenRoot("top")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if e, err := ImportTree(t.Context(), sub.FS(), ".", nil); err != nil || e.Ref != got.Ref || e.Name != "" {
		t.Errorf("got %v named %q, want the same tree without a name", err, e.Name)
	}
	if e, err := ImportTree(t.Context(), root.FS(), "top/a.txt", nil); err != nil || e.Ref != Raw([]byte("a")) || e.Name != "a.txt" {
		t.Errorf("a file: got %q, %v", e.Name, err)
	}
	if _, err := ImportTree(t.Context(), root.FS(), "top/out", nil); !errors.Is(err, ErrSpecial) {
		t.Errorf("a symlink that leads out: got %v, want ErrSpecial", err)
	}
	_, err = ImportTree(t.Context(), root.FS(), "no-such-name", nil)
	if !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "no-such-name") {
		t.Errorf("got %v, want ErrNotExist without the name", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ImportTree(ctx, root.FS(), "top", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// TestImportTreeOfReaders imports from a file system whose files are not
// io.ReaderAt.
func TestImportTreeOfReaders(t *testing.T) {
	big := formula(8, 2<<20+1)
	fsys := fstest.MapFS{"d/x": {Data: big}}
	e, err := ImportTree(t.Context(), fsys, "d", nil)
	want := item{folder: map[string]item{"x": file(big)}}.own(t, profile, nil)
	if err != nil || e.Ref != want.Ref {
		t.Errorf("got another tree, %v", err)
	}
}

type sinkErr struct{ leaf, node error }

func (s sinkErr) Leaf(Ref, int64, int64) error { return s.leaf }
func (s sinkErr) Node(Ref, []byte) error       { return s.node }

func TestImportErrors(t *testing.T) {
	src, broken := formula(2, 5000), errors.New("broken")
	sh := shape{size: 64, links: 4}
	for _, workers := range []int{1, 3} {
		_, err := sh.file(t.Context(), bytes.NewReader(src), 5001, nil, workers)
		if !errors.Is(err, ErrChanged) {
			t.Errorf("a shorter file: got %v, want ErrChanged", err)
		}
		for _, s := range []Sink{sinkErr{leaf: broken}, sinkErr{node: broken}} {
			if _, err := sh.file(t.Context(), bytes.NewReader(src), 5000, s, workers); !errors.Is(err, broken) {
				t.Errorf("got %v, want the sink's error", err)
			}
			if _, err := sh.stream(t.Context(), bytes.NewReader(src), s, workers); !errors.Is(err, broken) {
				t.Errorf("stream: got %v, want the sink's error", err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := sh.file(ctx, bytes.NewReader(src), 5000, nil, workers); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		if _, err := sh.stream(ctx, bytes.NewReader(src), nil, workers); !errors.Is(err, context.Canceled) {
			t.Errorf("stream: got %v, want context.Canceled", err)
		}
		half := io.MultiReader(bytes.NewReader(src[:2500]), iotest.ErrReader(broken))
		if _, err := sh.stream(t.Context(), half, nil, workers); !errors.Is(err, broken) {
			t.Errorf("got %v, want the reader's error", err)
		}
	}
	if _, err := ImportFile(t.Context(), bytes.NewReader(nil), -1, nil); err == nil {
		t.Error("a negative size: got no error")
	}
}

// TestStreamLikeFile gives both importers the same content and compares what
// the sinks got.
func TestStreamLikeFile(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 4095, 4096, 4097, 10_000} {
		src := formula(11, n)
		sh := shape{size: 64, links: 8}
		a, b := newMemory(src), newMemory(src)
		want, err := sh.file(t.Context(), bytes.NewReader(src), int64(n), a, 4)
		if err != nil {
			t.Fatal(err)
		}
		got, err := sh.stream(t.Context(), iotest.HalfReader(bytes.NewReader(src)), b, 4)
		if err != nil || got != want || len(a.blocks) != len(b.blocks) || a.leaves != int64(n) || b.leaves != int64(n) {
			t.Errorf("%d bytes: the importers differ: %v", n, err)
		}
		compare(t, b, got.Ref, file(src))
	}
}

func TestEncodeFolderErrors(t *testing.T) {
	r := Raw(nil)
	for _, list := range [][]Entry{
		{{Name: "", Ref: r}}, {{Name: ".", Ref: r}}, {{Name: "..", Ref: r}}, {{Name: "a/b", Ref: r}}, {{Name: "a\x00", Ref: r}},
		{{Name: "a"}}, {{Name: "a", Ref: r}, {Name: "b", Ref: r}, {Name: "a", Ref: r}},
	} {
		if _, err := EncodeFolder(list, nil); !errors.Is(err, ErrBadEntry) {
			t.Errorf("%q: got %v, want ErrBadEntry", list[0].Name, err)
		}
	}
	for _, target := range []string{"", "a\x00", strings.Repeat("x", 5000)} {
		if _, err := EncodeSymlink(target, nil); !errors.Is(err, ErrBadTarget) {
			t.Errorf("got %v, want ErrBadTarget", err)
		}
	}
}
