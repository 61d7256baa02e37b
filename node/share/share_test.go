package share

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"wanderfs/cache/chunk"
)

func TestShareAndRead(t *testing.T) {
	root := t.TempDir()
	big, small := bytesOf(3*chunk.Size+17, 1), []byte("hello")
	put(t, filepath.Join(root, "shared/big.bin"), big)
	put(t, filepath.Join(root, "shared/dir/sub/small.txt"), small)
	put(t, filepath.Join(root, "shared/empty"), nil)
	put(t, filepath.Join(root, "shared/.secret"), small)
	put(t, filepath.Join(root, "shared/dir/film.mkv.part"), small)
	s := open(t, conf(root))
	reads(t, s, has(t, s, "big.bin", big), big)
	reads(t, s, has(t, s, "dir/sub/small.txt", small), small)
	reads(t, s, has(t, s, "empty", nil), nil)
	until(t, s, "folders are encoded", func() bool {
		_, a := item(s, "dir")
		_, b := item(s, "dir/sub")
		return a && b
	})
	if got := len(s.Items()); got != 5 {
		t.Errorf("got %d items, want 5", got)
	}
	// a newcomer
	put(t, filepath.Join(root, "shared/dir/late"), big[:99])
	has(t, s, "dir/late", big[:99])
	until(t, s, "the folder lists it", func() bool {
		dir, ok := item(s, "dir")
		if !ok {
			return false
		}
		d, err := chunk.OpenDir(t.Context(), getter{s, dir.Group}, dir.Entry.Ref)
		if err != nil {
			return false
		}
		names := 0
		_ = d.Each(t.Context(), func(chunk.Entry) error { names++; return nil })
		_, err = d.Lookup(t.Context(), "late")
		return err == nil && names == 2
	})
	// state and stats
	if got := s.State("big.bin").Phase; got != PhaseWaiting {
		t.Errorf("state: got %q, want waiting", got)
	}
	it, _ := item(s, "big.bin")
	s.MarkPublished([]chunk.Ref{it.Entry.Ref}, time.Now().Add(time.Hour))
	if got := s.State("big.bin"); got.Phase != PhasePublished || got.Ref != it.Entry.Ref {
		t.Errorf("state: got %q, want published", got.Phase)
	}
	if it, _ := item(s, "big.bin"); !it.Published {
		t.Error("the item is not published")
	}
	for name, want := range map[string]string{".secret": PhaseKept, "dir/film.mkv.part": PhaseKept, "none": ""} {
		if got := s.State(name).Phase; got != want {
			t.Errorf("state of %s: got %q, want %q", name, got, want)
		}
	}
	st := s.Stats()
	if st.Files != 4 || st.Published != 1 || st.Hashing != 0 || len(st.Errors) != 0 {
		t.Errorf("stats: got %+v", st)
	}
}

func TestOtherGroupGetsNothing(t *testing.T) {
	root := t.TempDir()
	for i := range 16 {
		put(t, filepath.Join(root, "shared", fmt.Sprint("f", i)), bytesOf(1000, uint64(i)))
	}
	c := conf(root)
	s := open(t, c)
	until(t, s, "all are shared", func() bool { return len(s.Items()) == 16 })
	groups := map[string]int{}
	count := map[int]int{}
	for _, it := range s.Items() {
		groups[it.Name] = it.Group
		count[it.Group]++
		for g := range maxGroups {
			if g != it.Group {
				refused(t, s, it.Entry.Ref, g)
			}
		}
		if _, err := s.Block(t.Context(), it.Entry.Ref, it.Group); err != nil {
			t.Fatal(err)
		}
		refused(t, s, it.Entry.Ref, (it.Group+1)%maxGroups) // also with the block in memory
	}
	if len(count) != maxGroups {
		t.Errorf("got %d groups, want %d", len(count), maxGroups)
	}
	if err := s.SetGroupState(3, []byte("key")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, c)
	if got := len(s.Items()); got != 16 {
		t.Fatalf("after reopening: got %d items, want 16 at once", got)
	}
	for _, it := range s.Items() {
		if it.Group != groups[it.Name] {
			t.Errorf("the group changed over a restart")
		}
	}
	if got := string(s.GroupState(3)); got != "key" {
		t.Errorf("group state: got %q", got)
	}
	refused(t, s, chunk.Raw([]byte("nothing")), 0)
}

func TestBehindTheBack(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, "shared/d/a")
	data := bytesOf(2*chunk.Size, 1)
	put(t, name, data)
	s := open(t, conf(root))
	it := has(t, s, "d/a", data)
	reads(t, s, it, data)
	leaf := chunk.Raw(data[chunk.Size:])
	if err := os.Truncate(name, chunk.Size+5); err != nil {
		t.Fatal(err)
	}
	has(t, s, "d/a", data[:chunk.Size+5])
	refused(t, s, leaf, it.Group)
	// another content with the same size and mtime
	fi, _ := os.Stat(name)
	data2 := bytesOf(chunk.Size+5, 2)
	put(t, name, data2)
	_ = os.Chtimes(name, fi.ModTime(), fi.ModTime())
	has(t, s, "d/a", data2)
	// a folder renamed: nothing is hashed again
	id := s.find2("d/a").id
	if err := os.Rename(filepath.Join(root, "shared/d"), filepath.Join(root, "shared/e")); err != nil {
		t.Fatal(err)
	}
	reads(t, s, has(t, s, "e/a", data2), data2)
	if got := s.find2("e/a").id; got != id {
		t.Errorf("the file was hashed again")
	}
	lacks(t, s, "d")
	// events of the moved folder go on
	put(t, filepath.Join(root, "shared/e/b"), data2[:7])
	has(t, s, "e/b", data2[:7])
	if err := os.RemoveAll(filepath.Join(root, "shared/e")); err != nil {
		t.Fatal(err)
	}
	lacks(t, s, "e/a")
	refused(t, s, it.Entry.Ref, it.Group)
	put(t, filepath.Join(root, "shared/e/c"), data2[:8]) // the same name, perhaps the same inode
	has(t, s, "e/c", data2[:8])
	put(t, filepath.Join(root, "shared/e/d"), data2[:9])
	has(t, s, "e/d", data2[:9])
}

func (s *Share) find2(name string) *node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sources[0].root.find(name)
}

// A change that no event and no stat tells of must still not get out.
func TestMismatchIsWithdrawn(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, "shared/a")
	a, b := bytesOf(5000, 1), bytesOf(5000, 2)
	put(t, name, a)
	c := conf(root)
	c.Rescan = time.Hour
	s := open(t, c)
	it := has(t, s, "a", a)
	s.watch.close() // deaf
	put(t, name, b)
	refused(t, s, it.Entry.Ref, it.Group)
	has(t, s, "a", b)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	it, _ = item(s, "a")
	refused(t, s, it.Entry.Ref, it.Group)
	lacks(t, s, "a")
	// a pipe in its place must not block anybody
	s.lookAtAll()
}

func TestSeveralSources(t *testing.T) {
	root := t.TempDir()
	data := bytesOf(5000, 1)
	c := conf(root)
	c.Groups = 1
	for i := range 3 {
		put(t, filepath.Join(root, "shared", fmt.Sprint(i)), data)
	}
	s := open(t, c)
	until(t, s, "all are there", func() bool { return len(s.Items()) == 3 })
	s.watch.close()
	it := s.Items()[0]
	_ = os.Remove(filepath.Join(root, "shared/0"))
	put(t, filepath.Join(root, "shared/1"), []byte("other"))
	reads(t, s, it, data)
}

func TestLostEvents(t *testing.T) {
	root := t.TempDir()
	c := conf(root)
	c.Rescan = time.Hour
	s := open(t, c)
	s.watch.close()
	put(t, filepath.Join(root, "shared/x/y"), []byte("new"))
	s.watch.fault(errOverflow)
	has(t, s, "x/y", []byte("new"))
	c2 := conf(t.TempDir())
	c2.Rescan = 50 * time.Millisecond
	s2 := open(t, c2)
	s2.watch.close()
	put(t, filepath.Join(c2.Dir, "z"), []byte("newer"))
	has(t, s2, "z", []byte("newer"))
	s2.watch.mu.Lock()
	s2.watch.limited = true
	s2.watch.mu.Unlock()
	if len(s2.Stats().Errors) != 1 {
		t.Error("the limit of watches is not told")
	}
}

func TestUnreadableDoesNotStopTheRest(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("root reads everything: only the broken folder is tried")
	}
	root := t.TempDir()
	put(t, filepath.Join(root, "shared/d/good"), []byte("good"))
	bad := filepath.Join(root, "shared/d/bad")
	put(t, bad, []byte("bad"))
	_ = os.Chmod(bad, 0)
	s := open(t, conf(root))
	has(t, s, "d/good", []byte("good"))
	until(t, s, "the folder is encoded", func() bool { _, ok := item(s, "d"); return ok })
	if os.Getuid() != 0 {
		until(t, s, "the error is told", func() bool { return len(s.Stats().Errors) == 1 })
		if got := s.State("d/bad"); got.Phase != PhaseError || got.Err == "" {
			t.Errorf("got %+v", got)
		}
		_ = os.Chmod(bad, 0o600)
		has(t, s, "d/bad", []byte("bad"))
	}
}

func TestSharedDirectoryGoneAndBack(t *testing.T) {
	root := t.TempDir()
	c := conf(root)
	put(t, filepath.Join(c.Dir, "a"), []byte("a"))
	s := open(t, c)
	it := has(t, s, "a", []byte("a"))
	if err := os.Rename(c.Dir, c.Dir+"2"); err != nil {
		t.Fatal(err)
	}
	s.lookAtAll()
	lacks(t, s, "a")
	refused(t, s, it.Entry.Ref, it.Group)
	if len(s.Stats().Errors) == 0 {
		t.Error("nothing is told")
	}
	if err := os.Rename(c.Dir+"2", c.Dir); err != nil {
		t.Fatal(err)
	}
	s.lookAtAll()
	has(t, s, "a", []byte("a"))
}
