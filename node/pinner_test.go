package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"testing"

	"wanderfs/cache"
	"wanderfs/cache/chunk"
)

// trees has all blocks of some content, and gives them while it is open.
type trees struct {
	cache  *cache.Cache
	blocks map[chunk.Ref][]byte
	src    []byte
	shut   bool
}

func (s *trees) Node(r chunk.Ref, b []byte) error { s.blocks[r] = bytes.Clone(b); return nil }
func (s *trees) Leaf(r chunk.Ref, off, n int64) error {
	s.blocks[r] = s.src[off : off+n]
	return nil
}

// file makes a file of n bytes that no other seed has.
func (s *trees) file(t *testing.T, name string, n int, seed byte) chunk.Entry {
	t.Helper()
	s.src = make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(s.src[i:], uint64(i)<<8|uint64(seed))
	}
	e, err := chunk.ImportFile(t.Context(), bytes.NewReader(s.src), int64(n), s)
	if err != nil {
		t.Fatal(err)
	}
	e.Name = name
	return e
}

func (s *trees) folder(t *testing.T, name string, entries ...chunk.Entry) chunk.Entry {
	t.Helper()
	e, err := chunk.EncodeFolder(entries, s)
	if err != nil {
		t.Fatal(err)
	}
	e.Name = name
	return e
}

// Get is what a task does: it stores what it gives.
func (s *trees) Get(_ context.Context, r chunk.Ref) ([]byte, error) {
	if b, err := s.cache.Get(r); err == nil {
		return b, nil
	}
	if s.shut {
		return nil, errors.New("nobody is there")
	}
	b := s.blocks[r]
	return b, s.cache.Put(r, b)
}

func (s *trees) ReadRange(ctx context.Context, r chunk.Ref, p []byte, off int64) (int, error) {
	b, err := s.Get(ctx, r)
	if err != nil {
		return 0, err
	}
	return copy(p, b[off:]), nil
}

func (s *trees) getter(chunk.Ref) chunk.RangeGetter { return s }

// here counts the blocks below r that the cache has, of those that are not known anyway.
func (s *trees) here(t *testing.T, r chunk.Ref) (have, all int) {
	t.Helper()
	seen := map[chunk.Ref]bool{}
	for todo := []chunk.Ref{r}; len(todo) > 0; {
		r := todo[0]
		todo = todo[1:]
		if _, known := r.Known(); known || seen[r] {
			continue
		}
		seen[r] = true
		all++
		if s.cache.Has(r) {
			have++
		}
		refs, err := chunk.Links(r, s.blocks[r])
		if err != nil {
			t.Fatal(err)
		}
		todo = append(todo, refs...)
	}
	return have, all
}

// TestPinnedTrees pins folders with folders in them, restarts, and unpins.
func TestPinnedTrees(t *testing.T) {
	s := &trees{blocks: map[chunk.Ref][]byte{}}
	both := s.file(t, "both", 5<<20, 1)
	deep := s.folder(t, "deep", both, s.file(t, "empty", 0, 0), s.file(t, "other", 3<<20, 2))
	one := s.folder(t, "one", s.file(t, "a", 100, 3), deep)
	two := s.folder(t, "two", both, s.file(t, "z", 4<<20, 4))
	conf := cache.Config{Dir: t.TempDir(), Limit: 32 << 20, MinFree: -1}
	var k *pinner
	open := func() {
		t.Helper()
		var err error
		if s.cache, err = cache.Open(conf); err != nil {
			t.Fatal(err)
		}
		k = newPinner(s.cache, s.getter, slog.New(slog.NewTextHandler(io.Discard, nil)))
		<-k.rounds
	}
	shut := func() {
		t.Helper()
		if err := errors.Join(k.Close(), k.Close(), s.cache.Close()); err != nil {
			t.Fatal(err)
		}
	}
	flood := func(seed byte) {
		t.Helper()
		for i := range byte(80) {
			b := bytes.Repeat([]byte{seed, i, 1, 2}, 1<<18)
			if err := s.cache.Put(chunk.Raw(b), b); err != nil {
				t.Fatal(err)
			}
		}
	}
	whole := func(what string, r chunk.Ref) {
		t.Helper()
		if have, all := s.here(t, r); have != all {
			t.Errorf("%s: %d of %d blocks are here", what, have, all)
		}
	}
	open()
	k.pin(one.Ref, true)
	<-k.rounds
	k.pin(two.Ref, true)
	<-k.rounds
	flood(1)
	whole("one, pinned", one.Ref)
	whole("two, pinned", two.Ref)
	shut()

	s.shut = true // after a restart nobody else has it
	open()
	flood(2)
	whole("one, after a restart", one.Ref)
	whole("two, after a restart", two.Ref)
	if got := len(s.cache.Pins()); got != 2 {
		t.Errorf("%d pins are listed, want the two that the user named", got)
	}
	before := s.cache.Stats().Pinned
	k.pin(one.Ref, false)
	<-k.rounds
	if got := s.cache.Stats().Pinned; before-got < 3<<20 || before-got > 4<<20 {
		t.Errorf("unpinning freed %d bytes, want 3 MiB and a little", before-got)
	}
	flood(3)
	whole("two, when one is unpinned", two.Ref)
	k.pin(two.Ref, false)
	<-k.rounds
	if got := s.cache.Stats().Pinned; got != 0 {
		t.Errorf("%d bytes are pinned at the end", got)
	}
	shut()

	// A tree that was not whole at a restart is completed.
	s.shut = true
	open()
	k.pin(one.Ref, true)
	<-k.rounds
	shut()
	s.shut = false
	open()
	poke(k.change)
	<-k.rounds
	whole("one, completed after a restart", one.Ref)
	shut()
}

// TestPinnedTreeThatDoesNotFit is kept in part, and leaves room to read.
func TestPinnedTreeThatDoesNotFit(t *testing.T) {
	s := &trees{blocks: map[chunk.Ref][]byte{}}
	e := s.file(t, "large", 40<<20, 9)
	var err error
	if s.cache, err = cache.Open(cache.Config{Dir: t.TempDir(), Limit: 32 << 20, MinFree: -1}); err != nil {
		t.Fatal(err)
	}
	k := newPinner(s.cache, s.getter, slog.New(slog.DiscardHandler))
	<-k.rounds
	k.pin(e.Ref, true)
	<-k.rounds
	if st := s.cache.Stats(); st.Pinned > st.Limit-2<<20 || st.Pinned < st.Limit/2 {
		t.Errorf("%d bytes of %d are pinned", st.Pinned, st.Limit)
	}
	b := make([]byte, 1<<20)
	if err := s.cache.Put(chunk.Raw(b), b); err != nil {
		t.Errorf("nothing else fits: %v", err)
	}
	if err := errors.Join(k.Close(), s.cache.Close()); err != nil {
		t.Error(err)
	}
}
