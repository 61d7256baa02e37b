package chunk

import (
	"bytes"
	"errors"
	"testing"
)

// Following Links meets every block of a tree, and hostile ones are refused.
func TestLinks(t *testing.T) {
	m := newStore()
	var entries []Entry
	for i, size := range []int{0, 10, 3 << 20} {
		e, err := ImportFile(t.Context(), bytes.NewReader(make([]byte, size)), int64(size), m)
		if err != nil {
			t.Fatal(err)
		}
		e.Name = string(rune('a' + i))
		entries = append(entries, e)
	}
	top, err := EncodeFolder(entries, m)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Ref]bool{}
	for todo := []Ref{top.Ref}; len(todo) > 0; {
		r := todo[0]
		todo = todo[1:]
		if seen[r] {
			continue
		}
		seen[r] = true
		b, err := m.Get(t.Context(), r)
		if err != nil {
			b = nil // a leaf, which the store may not have kept
			if !r.IsRaw() {
				t.Fatal(err)
			}
		}
		refs, err := Links(r, b)
		if err != nil {
			t.Fatal(err)
		}
		todo = append(todo, refs...)
	}
	// The folder, the large file's root, its one leaf of zeros thrice, two small files.
	if got, want := len(seen), 5; got != want {
		t.Errorf("met %d blocks, want %d", got, want)
	}
	bad := []byte("\x0a\x7f")
	if _, err := Links(PB(bad), bad); !errors.Is(err, ErrHostile) {
		t.Errorf("got %v, want %v", err, ErrHostile)
	}
}
