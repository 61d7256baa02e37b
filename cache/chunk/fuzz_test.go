package chunk

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
)

// seedBlocks are valid blocks of every kind.
func seedBlocks(f *testing.F) [][]byte {
	leaf := Raw([]byte("leaf"))
	blocks := [][]byte{
		fileBlock([]Ref{leaf, PB(nil)}, []int64{4, 900}),
		appendNode(nil, []link{{leaf, "a", 4}, {PB(nil), "b", 1}}, folderData()),
		appendNode(nil, nil, symlinkData("a/b")),
		appendNode(nil, []link{{leaf, "03x", 4}, {PB(nil), "FF", 9}}, shardData([]int{3, 255}, 256)),
		appendNode(nil, nil, append([]byte{8, 2, 18, 4}, "data\x18\x04"...)),
		{},
	}
	return blocks
}

// FuzzNode compares the dag-pb decoder with the oracle's, and encodes again
// what is in the profile's form.
func FuzzNode(f *testing.F) {
	for _, b := range seedBlocks(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNode(b)
		if err != nil {
			if !errors.Is(err, ErrHostile) {
				t.Fatalf("got %v, want ErrHostile", err)
			}
			return
		}
		o, err := merkledag.DecodeProtobuf(b)
		if err != nil {
			return // the oracle is stricter on the order of fields
		}
		links := o.Links() // sorted by name
		if len(links) != len(n.links) {
			t.Fatalf("got %d links, want %d", len(n.links), len(links))
		}
		if !bytes.Equal(o.Data(), n.data) {
			t.Fatal("other data than the oracle's")
		}
		again, err := decodeNode(appendNode(nil, withRefs(n.links), n.data))
		if err != nil || !bytes.Equal(again.data, n.data) || len(again.links) != len(withRefs(n.links)) {
			t.Fatalf("did not come back: %v", err)
		}
	})
}

func withRefs(links []link) (known []link) {
	for _, l := range links {
		if !l.ref.IsZero() {
			known = append(known, l)
		}
	}
	return known
}

// FuzzOracleNode takes what the oracle would encode the same way: the decoder
// must accept it. (The oracle alone forgives bytes after a link's CID.)
func FuzzOracleNode(f *testing.F) {
	for _, b := range seedBlocks(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := merkledag.DecodeProtobuf(b)
		if err != nil {
			return
		}
		again, err := o.EncodeProtobuf(true)
		if err != nil || !bytes.Equal(again, b) || len(o.Links()) > maxLinks || len(b) > MaxBlock {
			return
		}
		if _, err := decodeNode(b); err != nil {
			t.Fatalf("the oracle takes it: %v", err)
		}
	})
}

// FuzzUnixFS compares the UnixFS decoder with the oracle's.
func FuzzUnixFS(f *testing.F) {
	for _, b := range [][]byte{fileData([]int64{1, 2, 300}), folderData(), symlinkData("x"), shardData([]int{1, 9}, 256), {8, 2, 34, 2, 1, 2}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeData(b)
		if err != nil {
			if !errors.Is(err, ErrHostile) {
				t.Fatalf("got %v, want ErrHostile", err)
			}
			return
		}
		o, err := unixfs.FSNodeFromBytes(b)
		if err != nil {
			return // wrong wire types, which are skipped here
		}
		if int(o.Type()) != int(d.kind) || !bytes.Equal(o.Data(), d.body) || o.NumChildren() != len(d.sizes) {
			t.Fatalf("got kind %d, %d bytes, %d sizes; want %d, %d, %d",
				d.kind, len(d.body), len(d.sizes), o.Type(), len(o.Data()), o.NumChildren())
		}
		for i, s := range d.sizes {
			if o.BlockSize(i) != s {
				t.Fatalf("size %d: got %d, want %d", i, s, o.BlockSize(i))
			}
		}
	})
}

// FuzzFile opens and reads a root from a stranger.
func FuzzFile(f *testing.F) {
	for _, b := range seedBlocks(f) {
		f.Add(b, int64(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, off int64) {
		m := newStore()
		m.raw([]byte("leaf"))
		m.put(nil)
		r := m.put(b)
		if e, err := Stat(t.Context(), m, r); err == nil && (e.Size < 0 || e.Total < 0 || e.Kind == Unknown) {
			t.Fatalf("got size %d, total %d, kind %d", e.Size, e.Total, e.Kind)
		}
		file, err := OpenFile(t.Context(), m, r)
		if err != nil {
			return
		}
		p := make([]byte, 100)
		if n, err := file.ReadAt(t.Context(), p, off); n < len(p) && err == nil {
			t.Fatalf("got %d bytes and no error", n)
		}
		_, _ = file.Leaves(t.Context(), off, 1<<30)
	})
}

// FuzzFolder lists a root from a stranger, plain or sharded: each entry is
// found by its name, and comes once.
func FuzzFolder(f *testing.F) {
	sub := appendNode(nil, []link{{Raw(nil), "6Da", 1}}, shardData([]int{0x6d}, 256))
	for _, b := range seedBlocks(f) {
		f.Add(b, sub)
	}
	f.Add(appendNode(nil, []link{{PB(sub), "9C", 1}}, shardData([]int{0x9c}, 256)), sub)
	f.Fuzz(func(t *testing.T, b, sub []byte) {
		m := newStore()
		m.put(sub)
		d, err := OpenDir(t.Context(), m, m.put(b))
		if err != nil {
			return
		}
		seen := map[string]bool{}
		err = d.Each(t.Context(), func(e Entry) error {
			if seen[e.Name] {
				t.Fatalf("%q twice", e.Name)
			}
			seen[e.Name] = true
			if got, err := d.Lookup(t.Context(), e.Name); err != nil || got != e {
				t.Fatalf("%q: got %v", e.Name, err)
			}
			checkShown(t, EscapeName(e.Name))
			return nil
		})
		if err != nil && !errors.Is(err, ErrHostile) && !errors.Is(err, errMissing) {
			t.Fatal(err)
		}
	})
}

// FuzzNames shows names and takes them back.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"", ".", "..", "a/b", "%41", "%~", "%", "%%%", "\xff\u202e", "日本語.txt"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		shown := EscapeName(s)
		checkShown(t, shown)
		if back, err := UnescapeName(shown); err == nil && back != s || err != nil && !isCut(shown) {
			t.Fatalf("%q shown as %q came back as %q, %v", s, shown, back, err)
		}
		if raw, err := UnescapeName(s); err == nil && EscapeName(raw) != s {
			t.Fatalf("%q is a second name of %q", s, raw)
		}
	})
}

// FuzzParse reads CID strings: what parses has one canonical name, and is how
// that CID is written in its base, but for the case of letters.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn", "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354",
		"f01551220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
		"bafkqabtjnzwgs3tf", "zzz", "/ipfs/bafy", "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf355",
		"mAXASIFmUhDkGXylhnvQSgMu5Mr5SxW2ZxZZrZeARETnwmL3v", "mAXASIFmUhDkGXylhnvQSgMu5Mr5SxW2ZxZZrZeARETnwmL3\nv", "z6w", "🚀",
		"f01551220E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrBadName) || !r.IsZero() {
				t.Fatalf("got %v, want ErrBadName", err)
			}
			var misspelt *MisspeltError
			if errors.As(err, &misspelt) {
				if again, err := Parse(misspelt.Right.Name()); err != nil || again != misspelt.Right {
					t.Fatalf("the right spelling does not parse: %v", err)
				}
			}
			return
		}
		if written := spellings(t, r); !slices.ContainsFunc(written, func(w string) bool {
			return w == s || w[0] == s[0] && strings.Contains("fFbBcCvVtTkK", s[:1]) && strings.EqualFold(w, s)
		}) {
			t.Fatalf("%q is none of %q", s, written)
		}
		again, err := Parse(r.Name())
		if err != nil || again != r {
			t.Fatalf("does not come back: %v", err)
		}
		if r.CID().Version() != 1 || r.IsRaw() != (r.CID().Type() == cid.Raw) {
			t.Fatal("not in the canonical form")
		}
		_ = r.Verify([]byte(s))
	})
}
