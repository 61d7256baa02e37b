package chunk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/multiformats/go-multihash"
	"github.com/spaolacci/murmur3"
	"go.uber.org/goleak"

	"github.com/ipfs/go-cid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fileBlock makes a file's node with sizes as claimed.
func fileBlock(refs []Ref, claims []int64) []byte {
	links := make([]link, len(refs))
	for i, r := range refs {
		links[i] = link{ref: r, size: uint64(claims[i])}
	}
	return appendNode(nil, links, fileData(claims))
}

// readAll opens r and reads all of it.
func readAll(ctx context.Context, g Getter, r Ref) ([]byte, error) {
	f, err := OpenFile(ctx, g, r)
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(f.Size(), 1<<20))
	n, err := f.ReadAt(ctx, b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

func TestHostileFiles(t *testing.T) {
	m := newStore()
	leaf := m.raw([]byte("four"))
	folder := m.put(appendNode(nil, nil, folderData()))
	inner := m.put(fileBlock([]Ref{leaf}, []int64{4}))
	chain := leaf
	for range maxDepth + 2 {
		chain = m.put(fileBlock([]Ref{chain}, []int64{4}))
	}
	varints := func(v ...uint64) (b []byte) {
		for _, x := range v {
			b = binary.AppendUvarint(b, x)
		}
		return b
	}
	good := link{ref: leaf, size: 4}
	for name, b := range map[string][]byte{
		"not protobuf":           []byte("hello"),
		"no data":                appendNode(nil, []link{good}, nil)[:0],
		"empty data":             appendNode(nil, nil, nil),
		"unknown kind":           appendNode(nil, nil, varints(8, 9)),
		"metadata":               appendNode(nil, nil, varints(8, typeMetadata)),
		"fewer sizes than links": appendNode(nil, []link{good, good}, varints(8, 2, 24, 4, 32, 4)),
		"more sizes than links":  appendNode(nil, []link{good}, varints(8, 2, 24, 8, 32, 4, 32, 4)),
		"sum differs":            appendNode(nil, []link{good}, varints(8, 2, 24, 5, 32, 4)),
		"sum overflows":          appendNode(nil, []link{good, good}, varints(8, 2, 24, 0, 32, 1<<63, 32, 1<<63)),
		"no sum":                 appendNode(nil, []link{good}, varints(8, 2, 32, 4)),
		"leaf of 3 MiB":          fileBlock([]Ref{leaf}, []int64{3 << 20}),
		"too long":               fileBlock([]Ref{inner}, []int64{maxFile + 1}),
		"named part":             appendNode(nil, []link{{leaf, "x", 4}}, fileData([]int64{4})),
		"leaf with links":        appendNode(nil, []link{good}, varints(8, 0, 24, 4, 32, 4)),
		"leaf size differs":      appendNode(nil, nil, append(varints(8, 2, 18, 3), "abc\x18\x04"...)),
		"leaf shorter":           fileBlock([]Ref{leaf}, []int64{5}),
		"leaf longer":            fileBlock([]Ref{leaf}, []int64{3}),
		"inner node longer":      fileBlock([]Ref{inner}, []int64{3}),
		"inner node shorter":     fileBlock([]Ref{inner}, []int64{9}),
		"folder inside":          fileBlock([]Ref{folder}, []int64{4}),
		"too deep":               fileBlock([]Ref{chain}, []int64{4}),
		"data twice":             append(appendNode(nil, nil, fileData(nil)), appendNode(nil, nil, fileData(nil))...),
		"unknown field":          append(appendNode(nil, nil, fileData(nil)), 3<<3|wireVarint, 1),
		"links in two groups":    append(appendNode(nil, []link{good}, fileData([]int64{4, 4})), appendNode(nil, []link{good}, nil)[:linkLen(good)]...),
		"huge length":            varints(10, 1<<62),
		"block too long":         appendNode(nil, nil, append([]byte{8, 2, 18, 0x80, 0x80, 0x80, 1}, make([]byte, MaxBlock)...)),
	} {
		r := m.put(b)
		for kind, g := range map[string]Getter{"whole": m, "ranged": &ranged{memory: m}} {
			if _, err := readAll(t.Context(), g, r); !errors.Is(err, ErrHostile) {
				t.Errorf("%s, %s: got %v, want ErrHostile", name, kind, err)
			}
			if _, err := OpenDir(t.Context(), g, r); err == nil {
				t.Errorf("%s, %s: opened as a folder", name, kind)
			}
			_, _ = Stat(t.Context(), g, r)
		}
	}
}

// TestExpansion reads at the end of a file that one leaf, linked 40 times on
// each of 8 levels, makes 6.5 TB long, with one fetch a level.
func TestExpansion(t *testing.T) {
	m := newStore()
	r, size := m.raw([]byte("x")), int64(1)
	for range 8 {
		refs, sizes := make([]Ref, 40), make([]int64, 40)
		for i := range refs {
			refs[i], sizes[i] = r, size
		}
		r, size = m.put(fileBlock(refs, sizes)), size*40
	}
	f, err := OpenFile(t.Context(), m, r)
	if err != nil || f.Size() != size {
		t.Fatalf("got %d, %v; want %d", f.Size(), err, size)
	}
	p := make([]byte, 3)
	if n, err := f.ReadAt(t.Context(), p, size-3); n != 3 || err != nil || string(p) != "xxx" {
		t.Fatalf("got %d, %v", n, err)
	}
	if got := m.gets[r]; got != 1 {
		t.Errorf("root fetched %d times, want once", got)
	}
	refs, err := f.Leaves(t.Context(), 0, size)
	if err != nil || len(refs) > maxLeaves {
		t.Errorf("got %d leaves, %v; want at most %d", len(refs), err, maxLeaves)
	}
}

// TestEmptyParts never visits children that hold nothing.
func TestEmptyParts(t *testing.T) {
	m := newStore()
	none := Raw([]byte("never stored"))
	leaf := m.raw([]byte("four"))
	refs := []Ref{none, leaf, none, none, leaf, none}
	r := m.put(fileBlock(refs, []int64{0, 4, 0, 0, 4, 0}))
	if got, err := readAll(t.Context(), m, r); string(got) != "fourfour" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	f, _ := OpenFile(t.Context(), m, r)
	if got, err := f.Leaves(t.Context(), 0, 8); len(got) != 2 || err != nil {
		t.Errorf("got %d leaves, %v; want 2", len(got), err)
	}
}

func TestInlineRefs(t *testing.T) {
	ident := func(codec uint64, b []byte) Ref {
		h, err := multihash.Encode(b, multihash.IDENTITY)
		if err != nil {
			t.Fatal(err)
		}
		r, err := FromCID(cid.NewCidV1(codec, h))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	m := newStore()
	raw := ident(cid.Raw, []byte("inline"))
	r := ident(cid.DagProtobuf, fileBlock([]Ref{raw, raw}, []int64{6, 6}))
	for _, g := range []Getter{m, &ranged{memory: m}} {
		if got, err := readAll(t.Context(), g, r); string(got) != "inlineinline" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	d, err := OpenDir(t.Context(), m, m.put(appendNode(nil, []link{{raw, "a", 99}}, folderData())))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := d.Lookup(t.Context(), "a"); e.Size != 6 || err != nil {
		t.Errorf("got %d bytes, %v; want 6", e.Size, err)
	}
}

func TestWrongKinds(t *testing.T) {
	m := newStore()
	leaf := m.raw([]byte("four"))
	sym, _ := EncodeSymlink("a/b", m)
	dir, _ := EncodeFolder(nil, m)
	for _, r := range []Ref{sym.Ref, dir.Ref} {
		if _, err := OpenFile(t.Context(), m, r); !errors.Is(err, ErrNotFile) {
			t.Errorf("got %v, want ErrNotFile", err)
		}
	}
	for _, r := range []Ref{sym.Ref, leaf} {
		if _, err := OpenDir(t.Context(), m, r); !errors.Is(err, ErrNotDir) {
			t.Errorf("got %v, want ErrNotDir", err)
		}
	}
	for _, target := range []string{"", "a\x00b", strings.Repeat("x", maxTarget+1)} {
		r := m.put(appendNode(nil, nil, symlinkData(target)))
		if _, err := Stat(t.Context(), m, r); !errors.Is(err, ErrHostile) {
			t.Errorf("target of %d bytes: got %v, want ErrHostile", len(target), err)
		}
	}
	if e, err := Stat(t.Context(), m, sym.Ref); e.Kind != Symlink || e.Target != "a/b" || err != nil {
		t.Errorf("got kind %d to %q, %v", e.Kind, e.Target, err)
	}
	if _, err := OpenFile(t.Context(), m, Raw([]byte("gone"))); !errors.Is(err, errMissing) {
		t.Errorf("got %v, want the getter's error", err)
	}
}

func TestHostileFolder(t *testing.T) {
	m := newStore()
	a, b := m.raw([]byte("a")), m.raw([]byte("b"))
	other, err := cid.Decode("bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy") // dag-cbor
	if err != nil {
		t.Fatal(err)
	}
	block := appendNode(nil, []link{
		{a, "same", 1}, {b, "same", 1}, {a, "", 1}, {a, ".", 1}, {a, "..", 1}, {a, "z\x00", 1},
		{Ref{other}, "cbor", 1}, {a, "up/down", 1}, {a, "liar", 1 << 40},
	}, folderData())
	d, err := OpenDir(t.Context(), m, m.put(block))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = d.Each(t.Context(), func(e Entry) error {
		got = append(got, EscapeName(e.Name))
		return nil
	})
	if want := "[same up%2Fdown liar]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v; want %s", got, err, want)
	}
	if e, err := d.Lookup(t.Context(), "same"); e.Ref != a || err != nil {
		t.Errorf("of two entries with one name the first must count: %v", err)
	}
	if e, err := d.Lookup(t.Context(), "liar"); e.Kind != Unknown || e.Size != 0 || err != nil {
		t.Errorf("got kind %d, size %d for a raw leaf of 1 TiB", e.Kind, e.Size)
	}
	for _, name := range []string{"", ".", "..", "z\x00", "cbor", "none"} {
		if _, err := d.Lookup(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: got %v, want ErrNotFound", name, err)
		}
	}
	stop := errors.New("enough")
	if err := d.Each(t.Context(), func(Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the caller's error", err)
	}
}

func TestHostileShards(t *testing.T) {
	m := newStore()
	leaf := m.raw([]byte("four"))
	slot := func(name string) int { return int(murmur3.Sum64([]byte(name)) >> 56) }
	at := func(slot int, name string, r Ref) link {
		return link{ref: r, name: prefix(slot, 2) + name, size: 1}
	}
	one := func(l link, slot int) []byte { return appendNode(nil, []link{l}, shardData([]int{slot}, 256)) }
	empty := m.put(appendNode(nil, nil, shardData(nil, 256)))
	plain := m.put(appendNode(nil, nil, folderData()))
	small := m.put(appendNode(nil, []link{{leaf, "0x", 1}}, shardData([]int{0}, 16)))
	deep := m.put(one(at(3, "x", leaf), 3))
	for range 9 {
		deep = m.put(one(at(3, "", deep), 3))
	}
	// One shard, linked from every slot of its parent, on every level: listing
	// it without checking positions would take 256^7 visits.
	bomb := m.put(one(at(slot("x"), "x", leaf), slot("x")))
	for range 6 {
		var links []link
		var slots []int
		for i := range 256 {
			links, slots = append(links, at(i, "", bomb)), append(slots, i)
		}
		bomb = m.put(appendNode(nil, links, shardData(slots, 256)))
	}
	bits := shardData([]int{1, 2}, 256)
	for name, b := range map[string][]byte{
		"wrong slot":           one(at(slot("x")^1, "x", leaf), slot("x")^1),
		"prefix unlike bit":    one(at(slot("x")^1, "x", leaf), slot("x")),
		"lower-case prefix":    one(link{leaf, "ab", 1}, 0xab),
		"short prefix":         one(link{leaf, "A", 1}, 10),
		"more bits than links": appendNode(nil, []link{at(1, "", empty)}, bits),
		"other hash":           appendNode(nil, nil, []byte{8, 5, 40, 0x23, 48, 0x80, 2}),
		"fanout 3":             appendNode(nil, nil, shardData(nil, 24)),
		"fanout 4":             appendNode(nil, nil, []byte{8, 5, 40, 0x22, 48, 4}),
		"fanout 2048":          appendNode(nil, nil, shardData(nil, 2048)),
		"fanout 0":             appendNode(nil, nil, []byte{8, 5, 40, 0x22}),
		"long bitfield":        appendNode(nil, nil, append([]byte{8, 5, 18, 33}, append(make([]byte, 33), 40, 0x22, 48, 0x80, 2)...)),
		"empty sub-shard":      one(at(1, "", empty), 1),
		"plain sub-shard":      one(at(1, "", plain), 1),
		"raw sub-shard":        one(at(1, "", leaf), 1),
		"other fanout below":   one(at(1, "", small), 1),
		"too deep":             one(at(3, "", deep), 3),
		"bomb":                 one(at(0, "", bomb), 0),
	} {
		r := m.put(b)
		d, err := OpenDir(t.Context(), m, r)
		if err == nil {
			err = d.Each(t.Context(), func(Entry) error { return nil })
		}
		if !errors.Is(err, ErrHostile) {
			t.Errorf("%s: got %v, want ErrHostile", name, err)
		}
	}
}

// slow is a Getter that answers only when ctx is cancelled, but for some.
type slow struct {
	*memory
	fast map[Ref]bool
}

func (s slow) Get(ctx context.Context, r Ref) ([]byte, error) {
	if s.fast[r] {
		return s.memory.Get(ctx, r)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestCancel(t *testing.T) {
	src := formula(1, 5000)
	m := newMemory(src)
	sh := shape{size: 16, links: 8, fanout: 8, plain: 100}
	e, err := sh.file(t.Context(), bytes.NewReader(src), 5000, m, 1)
	if err != nil {
		t.Fatal(err)
	}
	var entries []Entry
	for i := range 200 {
		entries = append(entries, Entry{Name: fmt.Sprint(i), Ref: e.Ref})
	}
	d, err := sh.folder(entries, m)
	if err != nil {
		t.Fatal(err)
	}
	g := slow{m, map[Ref]bool{e.Ref: true, d.Ref: true}}
	synctest.Test(t, func(t *testing.T) {
		for name, call := range map[string]func(context.Context) error{
			"open":    func(ctx context.Context) error { _, err := OpenFile(ctx, slow{memory: m}, e.Ref); return err },
			"opendir": func(ctx context.Context) error { _, err := OpenDir(ctx, slow{memory: m}, d.Ref); return err },
			"stat":    func(ctx context.Context) error { _, err := Stat(ctx, slow{memory: m}, e.Ref); return err },
			"read": func(ctx context.Context) error {
				f, err := OpenFile(ctx, g, e.Ref)
				if err != nil {
					return err
				}
				_, err = f.ReadAt(ctx, make([]byte, 100), 700)
				return err
			},
			"each": func(ctx context.Context) error {
				dir, err := OpenDir(ctx, g, d.Ref)
				if err != nil {
					return err
				}
				return dir.Each(ctx, func(Entry) error { return nil })
			},
			"lookup": func(ctx context.Context) error {
				dir, err := OpenDir(ctx, g, d.Ref)
				if err != nil {
					return err
				}
				_, err = dir.Lookup(ctx, "17")
				return err
			},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- call(ctx) }()
			synctest.Wait()
			select {
			case err := <-done:
				t.Errorf("%s: did not wait: %v", name, err)
			default:
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Errorf("%s: got %v, want context.Canceled", name, err)
				}
			}
			cancel()
		}
	})
}
