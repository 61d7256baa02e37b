package share

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"

	"wanderfs/cache/chunk"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("SHARE_TEST_CHILD"); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// conf shares root/shared, quick enough for tests.
func conf(root string) Config {
	return Config{
		Dir: filepath.Join(root, "shared"), DB: filepath.Join(root, "data", "share.db"),
		Settle: 30 * time.Millisecond, racy: time.Nanosecond,
	}
}

func open(t testing.TB, c Config) *Share {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func bytesOf(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 7})
	_, _ = r.Read(b)
	return b
}

func put(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// until waits for cond, looked at after each signal and regularly.
func until(t testing.TB, s *Share, what string, cond func() bool) {
	t.Helper()
	end := time.After(120 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-s.Changed():
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain until %s; stats %+v, items %d", what, s.Stats(), len(s.Items()))
		}
	}
}

func item(s *Share, name string) (Item, bool) {
	for _, it := range s.Items() {
		if it.Name == name {
			return it, true
		}
	}
	return Item{}, false
}

// has waits until name is shared with this content.
func has(t testing.TB, s *Share, name string, data []byte) Item {
	t.Helper()
	want, err := chunk.ImportFile(t.Context(), bytes.NewReader(data), int64(len(data)), nil)
	if err != nil {
		t.Fatal(err)
	}
	var it Item
	until(t, s, "it is shared", func() bool {
		var ok bool
		it, ok = item(s, name)
		return ok && it.Entry.Ref == want.Ref
	})
	return it
}

func lacks(t testing.TB, s *Share, name string) {
	t.Helper()
	until(t, s, "it is withdrawn", func() bool {
		_, ok := item(s, name)
		return !ok
	})
}

// get reads a whole file through Block.
type getter struct {
	s     *Share
	group int
}

func (g getter) Get(ctx context.Context, r chunk.Ref) ([]byte, error) {
	return g.s.Block(ctx, r, g.group)
}

func readAll(t testing.TB, s *Share, it Item) ([]byte, error) {
	t.Helper()
	f, err := chunk.OpenFile(t.Context(), getter{s, it.Group}, it.Entry.Ref)
	if err != nil {
		return nil, err
	}
	b := make([]byte, f.Size())
	n, err := f.ReadAt(t.Context(), b, 0)
	if err != nil && n == len(b) {
		err = nil
	}
	return b[:n], err
}

func reads(t testing.TB, s *Share, it Item, want []byte) {
	t.Helper()
	got, err := readAll(t, s, it)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d other bytes, want %d", len(got), len(want))
	}
}

func refused(t testing.TB, s *Share, r chunk.Ref, group int) {
	t.Helper()
	if _, err := s.Block(t.Context(), r, group); !errors.Is(err, ErrNotShared) || err != ErrNotShared {
		t.Fatalf("Block: got %v, want exactly ErrNotShared", err)
	}
}

var errOverflow = fsnotify.ErrEventOverflow
