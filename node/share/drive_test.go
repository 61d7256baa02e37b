package share

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"wanderfs/cache/chunk"
)

func TestFirstWriteWithdraws(t *testing.T) {
	root := t.TempDir()
	c := conf(root)
	name := filepath.Join(c.Dir, "d/a")
	put(t, name, []byte("before"))
	s := open(t, c)
	it := has(t, s, "d/a", []byte("before"))
	reads(t, s, it, []byte("before"))
	s.BeginWrite("d/a")
	refused(t, s, it.Entry.Ref, it.Group)
	if got := s.State("d/a").Phase; got != PhaseHashing {
		t.Errorf("got %q", got)
	}
	if _, ok := item(s, "d/a"); ok {
		t.Error("it is still an item")
	}
	put(t, name, []byte("after"))
	s.Wrote("d/a")
	s.lookAtAll()
	later(t, s, c, "1") // it must not be published while it is open
	if _, ok := item(s, "d/a"); ok {
		t.Error("published while it was open for writing")
	}
	s.Closed("d/a")
	has(t, s, "d/a", []byte("after"))
	// opened and closed without a change
	s.BeginWrite("d/a")
	s.Closed("d/a")
	has(t, s, "d/a", []byte("after"))
	// a new file, slow
	s.BeginWrite("new")
	put(t, filepath.Join(c.Dir, "new"), []byte("half"))
	later(t, s, c, "2")
	if _, ok := item(s, "new"); ok {
		t.Error("a half written file was published")
	}
	put(t, filepath.Join(c.Dir, "new"), []byte("whole"))
	s.Closed("new")
	has(t, s, "new", []byte("whole"))
}

// later waits until two files, the second put after the first was shared, have
// gone all the way: whatever was due before them was looked at, too.
func later(t *testing.T, s *Share, c Config, name string) {
	t.Helper()
	for _, n := range []string{"first " + name, "second " + name} {
		put(t, filepath.Join(c.Dir, n), []byte(n))
		has(t, s, n, []byte(n))
	}
}

func TestRenamedAndRemoved(t *testing.T) {
	root := t.TempDir()
	c := conf(root)
	at := func(name string) string { return filepath.Join(c.Dir, name) }
	data := bytesOf(1500000, 5)
	put(t, at("d/a"), data)
	put(t, at("b"), []byte("b"))
	s := open(t, c)
	was := has(t, s, "d/a", data)
	has(t, s, "b", []byte("b"))
	id := s.find2("d/a").id
	mv := func(o, n string) {
		t.Helper()
		if err := os.Rename(at(o), at(n)); err != nil {
			t.Fatal(err)
		}
		s.Renamed(o, n)
	}
	mv("d/a", "b") // over another
	it := has(t, s, "b", data)
	reads(t, s, it, data)
	lacks(t, s, "d/a")
	until(t, s, "it settles", func() bool { return s.Stats().Hashing == 0 && s.State("b").Phase == PhaseWaiting })
	if got := s.find2("b").id; got != id {
		t.Error("renamed and hashed again")
	}
	mv("b", "b.part")
	lacks(t, s, "b")
	mv("b.part", "d/c")
	reads(t, s, has(t, s, "d/c", data), data)
	mv("d", "e")
	it = has(t, s, "e/c", data)
	if it.Group != was.Group {
		t.Error("a renamed top-level folder changed its group")
	}
	until(t, s, "folder", func() bool { _, ok := item(s, "e"); return ok })
	_ = os.RemoveAll(at("e"))
	s.Removed("e")
	if got := len(s.Items()); got != 0 {
		t.Errorf("got %d items after removing, want none", got)
	}
	s.Renamed("nothing", "nowhere")
	s.Removed("nothing")
	s.Closed("../x")
	s.BeginWrite("")
	// all that survives a restart
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, c)
	if got := len(s.Items()); got != 0 {
		t.Errorf("got %d items", got)
	}
	var rows int
	for _, table := range []string{"items", "leaves", "nodes"} {
		if err := s.cat.read.QueryRow("SELECT count(*) FROM " + table).Scan(&rows); err != nil || rows != 0 {
			t.Errorf("%s: %d rows are left, %v", table, rows, err)
		}
	}
}

func TestLinks(t *testing.T) {
	root := t.TempDir()
	c := conf(root)
	mount := filepath.Join(root, "mnt")
	c.Private = []string{mount}
	music := filepath.Join(root, "home/Music")
	put(t, filepath.Join(music, "a.mp3"), []byte("a"))
	put(t, filepath.Join(music, ".b"), []byte("b"))
	secret := filepath.Join(root, "home/secret")
	put(t, secret, []byte("secret"))
	if err := os.Symlink(secret, filepath.Join(music, "leak")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a.mp3", filepath.Join(music, "good")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(c.Dir, "Music"), []byte("another"))
	film := filepath.Join(root, "film.mkv")
	put(t, film, []byte("film"))
	s := open(t, c)
	name, err := s.Link(music)
	if err != nil || name != "Music (2)" {
		t.Fatalf("got %q, %v", name, err)
	}
	if again, err := s.Link(music); again != name || err != nil {
		t.Fatalf("again: got %q, %v", again, err)
	}
	if _, err := s.Link(film); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		reads(t, s, has(t, s, "Music (2)/a.mp3", []byte("a")), []byte("a"))
		reads(t, s, has(t, s, "film.mkv", []byte("film")), []byte("film"))
		var dir Item
		until(t, s, "folder", func() bool { var ok bool; dir, ok = item(s, name); return ok })
		d, err := chunk.OpenDir(t.Context(), getter{s, dir.Group}, dir.Entry.Ref)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		_ = d.Each(t.Context(), func(e chunk.Entry) error { names = append(names, e.Name); return nil })
		if len(names) != 2 || names[0] != "a.mp3" || names[1] != "good" {
			t.Errorf("got %q", names)
		}
		e, err := chunk.Stat(t.Context(), getter{s, dir.Group}, mustLookup(t, d, "good"))
		if err != nil || e.Target != "a.mp3" {
			t.Errorf("symlink: got %v, %v", e.Target, err)
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, c)
	check()
	put(t, film, []byte("director's cut"))
	has(t, s, "film.mkv", []byte("director's cut"))
	put(t, filepath.Join(music, "sub/new"), []byte("n"))
	has(t, s, name+"/sub/new", []byte("n"))
	for _, bad := range []string{
		"/", "/etc/passwd", "/proc", "/home", root, c.Dir, filepath.Join(c.Dir, "Music"), filepath.Dir(c.DB), c.DB, mount,
		filepath.Join(mount, "hash"), filepath.Join(music, ".b"), filepath.Join(root, "none"),
	} {
		if got, err := s.Link(bad); err == nil {
			t.Errorf("linked %q as %q", bad, got)
		}
	}
	// the linked folder becomes a symlink to something else
	if err := os.Rename(music, music+"2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "home"), music); err != nil {
		t.Fatal(err)
	}
	s.lookAtAll()
	lacks(t, s, name+"/a.mp3")
	for _, it := range s.Items() {
		if it.Name == name+"/secret" {
			t.Error("followed a symlink")
		}
	}
	if err := s.Unlink("film.mkv"); err != nil {
		t.Fatal(err)
	}
	lacks(t, s, "film.mkv")
	if err := s.Unlink("film.mkv"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if got := len(s.Links()); got != 1 {
		t.Errorf("got %d links", got)
	}
}

func mustLookup(t *testing.T, d *chunk.Dir, name string) chunk.Ref {
	t.Helper()
	e, err := d.Lookup(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return e.Ref
}

func TestStrangeNamesAndThings(t *testing.T) {
	root := t.TempDir()
	c := conf(root)
	names := []string{"\xff\xfe bad utf8", "nfd é", "nfc é", "日本/語", "new\nline", "emoji 🎵", "back\\slash", "%41", "a?b#c"}
	for _, n := range names {
		put(t, filepath.Join(c.Dir, n), []byte(n))
	}
	if err := syscall.Mkfifo(filepath.Join(c.Dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(c.Dir, "etc")); err != nil {
		t.Fatal(err)
	}
	s := open(t, c)
	for _, n := range names {
		reads(t, s, has(t, s, n, []byte(n)), []byte(n))
	}
	for _, n := range []string{"pipe", "etc"} {
		if got := s.State(n).Phase; got != PhaseKept {
			t.Errorf("%s: got %q, want kept", n, got)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, c)
	if got, want := len(s.Items()), len(names)+1; got != want {
		t.Errorf("after reopening: got %d items, want %d", got, want)
	}
	// a pipe in the place of a file, unnoticed, blocks nobody
	s.watch.close()
	it, _ := item(s, "%41")
	_ = os.Remove(filepath.Join(c.Dir, "%41"))
	_ = syscall.Mkfifo(filepath.Join(c.Dir, "%41"), 0o600)
	refused(t, s, it.Entry.Ref, it.Group)
}

func TestManyFiles(t *testing.T) {
	root := t.TempDir()
	c := conf(root)
	many(t, c.Dir, 3000)
	s := open(t, c)
	until(t, s, "all are hashed", func() bool { return s.Stats().Hashing == 0 && len(s.Items()) == 3030 })
	if got := s.Stats(); got.Files != 3000 || len(got.Errors) != 0 {
		t.Errorf("got %+v", got)
	}
	for _, it := range s.Items()[:50] {
		if _, err := s.Block(t.Context(), it.Entry.Ref, it.Group); err != nil {
			t.Fatal(err)
		}
	}
	if runtime.NumGoroutine() > 60 {
		t.Errorf("%d goroutines", runtime.NumGoroutine())
	}
}
