package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"bazil.org/fuse"
	"golang.org/x/sys/unix"

	"wanderfs/cache/chunk"
)

func TestInside(t *testing.T) {
	for _, c := range []struct {
		target string
		depth  int
		want   string
		ok     bool
	}{
		{"file", 0, "file", true}, {"a/b", 0, "a/b", true}, {".", 0, ".", true}, {"./a", 0, "./a", true},
		{"../a", 1, "../a", true}, {"../../a", 2, "../../a", true}, {"..", 1, "..", true},
		{"a\x01", 0, "a%01", true},
		{"", 0, "", false}, {"/etc/passwd", 9, "", false}, {"..", 0, "", false}, {"../a", 0, "", false},
		{"../../a", 1, "", false}, {"a/../b", 5, "", false}, {"a/../../..", 1, "", false}, {"./../a", 0, "", false},
		{"../a/../../b", 2, "", false}, {strings.Repeat("a", 5000), 0, "", false},
	} {
		got, ok := inside(c.target, c.depth)
		if got != c.want || ok != c.ok {
			t.Errorf("inside(%q, %d): got %q, %v, want %q, %v", c.target, c.depth, got, ok, c.want, c.ok)
		}
	}
}

func TestJunk(t *testing.T) {
	for _, name := range []string{".DS_Store", "._x", "desktop.ini", "Desktop.ini", ".git", ".hidden", "autorun.inf", "AUTORUN.INF",
		".Trash", ".Trash-1000", ".xdg-volume-info", ".nomedia"} {
		if !junk(name) {
			t.Errorf("junk(%q): got false", name)
		}
	}
	for _, name := range []string{"git", "a.git", "folder.jpg", ".config", "free jazz", "hidden", ""} {
		if junk(name) {
			t.Errorf("junk(%q): got true", name)
		}
	}
}

func FuzzResultNames(f *testing.F) {
	f.Add("song.mp3", "song.mp3", "a/song.mp3")
	f.Add("..", ".", "")
	f.Add("x\x00y", strings.Repeat("ü", 300)+".mp3", strings.Repeat("ü", 300)+".mp3")
	f.Add("/", "a/", "%~")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var in []chunk.Result
		for i, name := range []string{a, b, c, a, b} {
			in = append(in, chunk.Result{Name: name, Ref: chunk.Raw([]byte{byte(i % 4)}), Kind: chunk.File})
		}
		all, _ := resultNames(in)
		if len(all.names) != 4 {
			t.Fatalf("got %d names, want 4", len(all.names))
		}
		for _, name := range all.names {
			if !validShown(name) {
				t.Errorf("name %q cannot be shown", name)
			}
		}
		in[0], in[1], in[2], in[3] = in[3], in[2], in[1], in[0]
		in[3].Name, in[0].Name = in[0].Name, in[3].Name // what was claimed first for a Ref counts
		again, _ := resultNames(in)
		if !reflect.DeepEqual(all.names, again.names) {
			t.Errorf("other order: got %q, want %q", again.names, all.names)
		}
	})
}

func FuzzInside(f *testing.F) {
	f.Add("../a/b", 1)
	f.Add("a//../..", 2)
	f.Fuzz(func(t *testing.T, target string, depth int) {
		depth = max(0, min(depth, 64))
		got, ok := inside(target, depth)
		if !ok {
			return
		}
		if strings.HasPrefix(got, "/") || strings.IndexByte(got, 0) >= 0 {
			t.Fatalf("target %q came through as %q", target, got)
		}
		level := depth
		for p := range strings.SplitSeq(got, "/") {
			if p == ".." {
				if level--; level < 0 {
					t.Fatalf("target %q leaves the folder at depth %d", target, depth)
				}
			}
		}
	})
}

func TestErrno(t *testing.T) {
	live := context.Background()
	gone, cancel := context.WithCancel(live)
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want error
	}{
		{live, nil, nil},
		{live, fmt.Errorf("look up: %w", ErrNoSource), fuse.Errno(syscall.ETIMEDOUT)},
		{live, fmt.Errorf("read: %w", ErrStalled), fuse.Errno(syscall.EIO)},
		{live, ErrBadName, fuse.Errno(syscall.ENOENT)},
		{live, ErrNotFolder, fuse.Errno(syscall.ENOTDIR)},
		{live, fmt.Errorf("open: %w", syscall.ENOSPC), fuse.Errno(syscall.ENOSPC)},
		{live, context.DeadlineExceeded, fuse.Errno(syscall.ETIMEDOUT)},
		{live, context.Canceled, fuse.Errno(syscall.EIO)}, // not the caller's doing
		{live, errors.New("anything"), fuse.Errno(syscall.EIO)},
		{gone, context.Canceled, fuse.Errno(syscall.EINTR)},
		{gone, ErrStalled, fuse.Errno(syscall.EINTR)},
	} {
		if got := errno(c.ctx, c.err); got != c.want {
			t.Errorf("errno(%v): got %v, want %v", c.err, got, c.want)
		}
	}
}

// The backing directory is left by no name, even if a folder in it has been
// replaced by a symlink.
func TestBackingConfined(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(outside+"/secret", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, dir+"/out"); err != nil {
		t.Fatal(err)
	}
	b, err := openBacking(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for _, name := range []string{"out/secret", "../" + outside + "/secret", outside + "/secret", "out/../../x"} {
		if _, err := b.lstat(name); err == nil {
			t.Errorf("lstat(%q) got outside", name)
		}
	}
	if st, err := b.lstat("out"); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("lstat(out): got mode %o, %v, want a symlink", st.Mode, err)
	}
}

func TestBackingDeep(t *testing.T) {
	dir := t.TempDir()
	b, err := openBacking(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	part := strings.Repeat("d", 200)
	name := ""
	for range 40 { // 8 000 bytes: longer than a path may be
		name = join(name, part)
		if err := b.in(name, func(dir int, base string) error { return unix.Mkdirat(dir, base, 0o700) }); err != nil {
			t.Fatalf("depth of %d bytes: %v", len(name), err)
		}
	}
	if st, err := b.lstat(name); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.Errorf("lstat: got mode %o, %v", st.Mode, err)
	}
}

func FuzzMountInfo(f *testing.F) {
	f.Add(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - fuse.wanderfs wanderfs rw`)
	f.Add(`a b c d \999 f - `)
	f.Fuzz(func(_ *testing.T, line string) { parseMountInfo(line) })
}

func TestMountInfo(t *testing.T) {
	mi := parseMountInfo(`36 35 98:7 / /mnt/a\040b rw,noatime - fuse.wanderfs wanderfs rw`)
	if mi == nil || *mi != (mountInfo{dev: "98:7", dir: "/mnt/a b", fstype: "fuse.wanderfs"}) {
		t.Errorf("got %+v", mi)
	}
}

func FuzzDirents(f *testing.F) {
	f.Add(bytes.Repeat([]byte{24, 0}, 20))
	f.Fuzz(func(t *testing.T, b []byte) {
		ents := appendDirents(nil, b)
		if len(ents) > len(b)/19 {
			t.Fatalf("%d bytes gave %d entries, want at most %d", len(b), len(ents), len(b)/19)
		}
		for _, e := range ents {
			if strings.ContainsRune(e.Name, 0) || !bytes.Contains(b, []byte(e.Name)) {
				t.Fatalf("got a name %q that the bytes do not hold", e.Name)
			}
		}
	})
}
