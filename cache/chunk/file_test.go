package chunk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
)

func TestReadAt(t *testing.T) {
	for _, sh := range []shape{{size: 64, links: 6}, {size: 5000, links: 3}} {
		testReadAt(t, sh)
	}
}

func testReadAt(t *testing.T, sh shape) {
	const size = 50_021
	src := formula(3, size)
	m := newMemory(src)
	e, err := sh.file(t.Context(), bytes.NewReader(src), size, m, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range []Getter{m, &ranged{memory: m}} {
		f, err := OpenFile(t.Context(), g, e.Ref)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), 0))
				for range 200 {
					off, n := rng.IntN(size+100), rng.IntN(9000)
					p := make([]byte, n)
					got, err := f.ReadAt(t.Context(), p, int64(off))
					want, werr := bytes.NewReader(src).ReadAt(make([]byte, n), int64(off))
					if got != want || !errors.Is(err, werr) && n > 0 {
						t.Errorf("%d bytes at %d: got %d, %v; want %d, %v", n, off, got, err, want, werr)
						return
					}
					if !bytes.Equal(p[:got], src[min(off, size):min(off, size)+got]) {
						t.Errorf("%d bytes at %d: wrong content", n, off)
						return
					}
				}
			})
		}
		wg.Wait()
		if _, err := f.ReadAt(t.Context(), make([]byte, 1), -1); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("negative offset: got %v", err)
		}
		if n, err := f.ReadAt(t.Context(), nil, 5); n != 0 || err != nil {
			t.Errorf("no bytes: got %d, %v", n, err)
		}
	}
}

// TestReadsOnlyWhatIsAsked counts what a read costs the Getter.
func TestReadsOnlyWhatIsAsked(t *testing.T) {
	const size = 40 << 20
	src := formula(4, size)
	m := newMemory(src)
	e, err := ImportFile(t.Context(), bytes.NewReader(src), size, m)
	if err != nil {
		t.Fatal(err)
	}
	g := &ranged{memory: m}
	f, err := OpenFile(t.Context(), g, e.Ref)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 128<<10)
	for off := int64(0); off < size; off += int64(len(p)) {
		if _, err := f.ReadAt(t.Context(), p, off); err != nil {
			t.Fatal(err)
		}
	}
	if g.bytes != size {
		t.Errorf("got %d bytes of leaves, want %d", g.bytes, size)
	}
	total := 0
	for _, n := range m.gets {
		total += n
	}
	if total != 1 {
		t.Errorf("got %d whole blocks, want the root only", total)
	}
	refs, err := f.Leaves(t.Context(), 3<<20-1, 2<<20)
	if err != nil || len(refs) != 3 {
		t.Fatalf("got %d leaves, %v; want 3", len(refs), err)
	}
	for i, r := range refs {
		at := (2 + i) << 20
		if want := Raw(src[at : at+1<<20]); r != want {
			t.Errorf("leaf %d is another", i)
		}
	}
}

// TestLeafLengths reads leaves, too long to be kept, that are not as long as
// their parent says.
func TestLeafLengths(t *testing.T) {
	m := newStore()
	const n = 10_000
	leaf := m.raw(formula(1, n))
	for _, g := range []Getter{m, &ranged{memory: m}} {
		for _, claim := range []int64{n - 1, n, n + 1, n + 600} {
			r := m.put(fileBlock([]Ref{leaf, leaf}, []int64{claim, claim}))
			_, err := readAll(t.Context(), g, r)
			if got, want := errors.Is(err, ErrHostile), claim != n; got != want {
				t.Errorf("%d bytes for %d: got %v", n, claim, err)
			}
		}
	}
}

// TestInlineAndParts reads a node with content of its own and children.
func TestInlineAndParts(t *testing.T) {
	m := newStore()
	leaf := m.raw([]byte("leaf"))
	data := append([]byte{8, typeFile, 18, 5}, "start\x18\x0d\x20\x04\x20\x04"...)
	r := m.put(appendNode(nil, []link{{ref: leaf, size: 4}, {ref: leaf, size: 4}}, data))
	if got, err := readAll(t.Context(), m, r); string(got) != "startleafleaf" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	f, err := OpenFile(t.Context(), m, r)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 5)
	if n, err := f.ReadAt(t.Context(), p, 3); n != 5 || err != nil || string(p) != "rtlea" {
		t.Errorf("got %d bytes %q, %v", n, p, err)
	}
	if refs, err := f.Leaves(t.Context(), 0, 6); len(refs) != 2 || err != nil {
		t.Errorf("got %d leaves, %v; want the node and its first child", len(refs), err)
	}
}

// TestTinyLeaves fetches a leaf of one byte once, however often it is linked.
func TestTinyLeaves(t *testing.T) {
	m := newStore()
	leaf := m.raw([]byte("x"))
	refs, sizes := make([]Ref, 1000), make([]int64, 1000)
	for i := range refs {
		refs[i], sizes[i] = leaf, 1
	}
	r := m.put(fileBlock(refs, sizes))
	g := &ranged{memory: m}
	if got, err := readAll(t.Context(), g, r); len(got) != 1000 || err != nil {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if m.gets[leaf] != 1 || g.bytes != 0 {
		t.Errorf("got %d fetches and %d bytes in parts, want 1 and 0", m.gets[leaf], g.bytes)
	}
}

// failing gives leaves up to a limit.
type failing struct {
	*memory
	left int
}

func (f *failing) Get(ctx context.Context, r Ref) ([]byte, error) {
	if f.left--; r.IsRaw() && f.left < 0 {
		return nil, errMissing
	}
	return f.memory.Get(ctx, r)
}

// TestPartialRead returns what came before an error.
func TestPartialRead(t *testing.T) {
	src := formula(3, 1000)
	m := newMemory(src)
	e, err := shape{size: 100, links: 20}.file(t.Context(), bytes.NewReader(src), 1000, m, 1)
	if err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(t.Context(), &failing{m, 4}, e.Ref)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1000)
	n, err := f.ReadAt(t.Context(), p, 0)
	if n != 300 || !errors.Is(err, errMissing) || !bytes.Equal(p[:n], src[:n]) {
		t.Errorf("got %d, %v; want 300 bytes and the getter's error", n, err)
	}
}

type heavy int

func (h heavy) cost() int { return int(h) }

func TestNodesAreBounded(t *testing.T) {
	var c lru[heavy]
	for i := range 100 {
		c.put(Raw([]byte{byte(i)}), nodeCache/10)
	}
	if c.used > nodeCache || c.order.Len() != 10 || len(c.items) != 10 {
		t.Errorf("got %d bytes in %d nodes, want at most %d in 10", c.used, c.order.Len(), nodeCache)
	}
	if _, ok := c.get(Raw([]byte{99})); !ok {
		t.Error("the last one is gone")
	}
	if _, ok := c.get(Raw([]byte{1})); ok {
		t.Error("the oldest one is still there")
	}
}
