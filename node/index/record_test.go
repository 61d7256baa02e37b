package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

func q1h() time.Time { return time.Now().Add(time.Hour) }

// inline is a Ref that carries its block: the longest kind of name.
func inline(t testing.TB) chunk.Ref {
	t.Helper()
	mh, err := multihash.Sum(bytes.Repeat([]byte{1}, 128), multihash.IDENTITY, -1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := chunk.FromCID(cid.NewCidV1(cid.Raw, mh))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// samples are valid records of every kind and form.
func samples(t testing.TB) []Record {
	t.Helper()
	b, err := NewBatch(testNet)
	if err != nil {
		t.Fatal(err)
	}
	long := Item{Name: strings.Repeat("longname", 31), Ref: inline(t), Kind: chunk.Folder, Size: 1 << 40}
	var recs []Record
	for _, it := range []Item{item("short"), long} {
		r, err := b.Postings(it, q1h())
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, r...)
	}
	g, _ := NewGroup(testNet)
	p, err := g.Pointer(item("x").Ref, q1h())
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.Seal(source(7), 9, q1h())
	if err != nil {
		t.Fatal(err)
	}
	return append(recs, p, s)
}

func TestPostingRoundTrip(t *testing.T) {
	words := make([]string, 40)
	for i := range words {
		words[i] = string(rune('a'+i%26)) + string(rune('0'+i/26))
	}
	for _, it := range []Item{
		item("one"),
		{Name: "a folder of some things", Ref: chunk.PB([]byte("dir")), Kind: chunk.Folder},
		{Name: strings.Repeat("n", MaxName), Ref: inline(t), Kind: chunk.File, Size: 1 << 50},
		item(strings.Join(words, " ")),
	} {
		b, _ := NewBatch(testNet)
		recs, err := b.Postings(it, q1h())
		if err != nil {
			t.Fatal(err)
		}
		tokens := Tokens(it.Name)
		if len(recs) != len(tokens) || b.Room() != BatchSize-len(tokens) {
			t.Fatalf("got %d postings, want %d", len(recs), len(tokens))
		}
		for i, w := range tokens {
			k := keysOf(w)
			got, _, err := openPosting(k, recs[i])
			if err != nil || got != it {
				t.Errorf("posting opens to another item, %v", err)
			}
			for _, o := range tokens {
				if o != w && !recs[i].hasTag(k.tagOf(o)) {
					t.Errorf("a word's tag is missing")
				}
			}
			if _, _, err := openPosting(keysOf(w+"x"), recs[i]); err == nil {
				t.Errorf("posting opens under another word")
			}
		}
	}
}

func TestSizesTellLittle(t *testing.T) {
	sizes := map[int]bool{}
	for _, n := range []string{"a", "a b c d e", strings.Repeat("x", 90), "something else.mkv"} {
		b, _ := NewBatch(testNet)
		recs, err := b.Postings(item(n), q1h())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			sizes[len(r.Bytes())] = true
		}
	}
	if len(sizes) != 1 || !sizes[shortSize] {
		t.Errorf("got %d sizes of ordinary postings, want one", len(sizes))
	}
}

func TestBatchLimits(t *testing.T) {
	b, _ := NewBatch(testNet)
	for i := range BatchSize / 2 {
		if _, err := b.Postings(item("word"+string(rune('a'+i))+" other"), q1h()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Postings(item("more"), q1h()); !errors.Is(err, ErrBatchFull) {
		t.Errorf("full: got %v, want ErrBatchFull", err)
	}
	b, _ = NewBatch(testNet)
	if _, err := b.Postings(item("🎵"), q1h()); !errors.Is(err, ErrNoWords) {
		t.Errorf("no words: got %v, want ErrNoWords", err)
	}
	if _, err := b.Postings(item(strings.Repeat("n", MaxName+1)), q1h()); !errors.Is(err, ErrNameLength) {
		t.Errorf("long: got %v, want ErrNameLength", err)
	}
	if _, err := b.Postings(Item{Name: "n"}, q1h()); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("no Ref: got %v, want ErrMalformed", err)
	}
	if b.Room() != BatchSize {
		t.Errorf("refused items used up room")
	}
}

func TestRecordVerify(t *testing.T) {
	for _, r := range samples(t) {
		if err := r.Verify(testNet); err != nil {
			t.Errorf("kind %d: %v", r.Kind(), err)
		}
		if r.Verify("other") == nil {
			t.Errorf("kind %d passes on another network", r.Kind())
		}
		for _, at := range []int{offAddr, offExpires + 7, 55, 60, offClass - 1, offTags, len(r.b) - 1, len(r.b) - 80} {
			b := slices.Clone(r.b)
			b[at] ^= 1
			if c, err := ParseRecord(b); err == nil && c.Verify(testNet) == nil {
				t.Errorf("kind %d passes with byte %d changed", r.Kind(), at)
			}
		}
	}
}

func TestGroupOwner(t *testing.T) {
	a, _ := NewGroup(testNet)
	b, _ := NewGroup(testNet)
	// b signs a record for a's address with its own key.
	r := newRecord(testNet, GroupInfo, 0, a.Address(), q1h(), 99, [2]byte{}, nil,
		sealWith(nil, a.sealKey(), randomNonce(), source(6), []byte(labelGroup)), b.writeKey())
	if r.Verify(testNet) == nil {
		t.Errorf("a group record of another owner passes")
	}
	if _, err := a.Seal([]byte("short"), 1, q1h()); err == nil {
		t.Errorf("a source of another length is sealed")
	}
	// Pointers of one group have nothing in common but their form.
	p, _ := a.Pointer(item("x").Ref, q1h())
	q, _ := a.Pointer(item("y").Ref, q1h())
	if p.key() == q.key() {
		t.Errorf("two pointers of a group share a key")
	}
	if p2, _ := a.Pointer(item("x").Ref, q1h().Add(time.Minute)); p2.id() != p.id() {
		t.Errorf("a pointer made again does not replace the first")
	}
}

func TestRecordMalformed(t *testing.T) {
	for _, r := range samples(t) {
		for name, spoil := range map[string]func(b []byte) []byte{
			"version":  func(b []byte) []byte { b[0]++; return b },
			"kind":     func(b []byte) []byte { b[1] = 9; return b },
			"form":     func(b []byte) []byte { b[offForm] = 7; return b },
			"short":    func(b []byte) []byte { return b[:len(b)-1] },
			"trailing": func(b []byte) []byte { return append(b, 0) },
			"expiry":   func(b []byte) []byte { b[offExpires] = 0xff; return b },
			"class":    func(b []byte) []byte { b[offClass] = 200; return b },
			"log2":     func(b []byte) []byte { b[offLog] = 65; return b },
			"empty":    func([]byte) []byte { return nil },
		} {
			if _, err := ParseRecord(spoil(slices.Clone(r.b))); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("kind %d, %s: got %v, want ErrMalformed", r.Kind(), name, err)
			}
		}
		if tags := r.tags(); tags != nil {
			b := slices.Clone(r.b)
			binary.BigEndian.PutUint16(b[offTags:], 0xffff)
			if _, err := ParseRecord(b); err == nil {
				t.Errorf("tags out of order pass")
			}
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, r := range samples(f) {
		f.Add(r.b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Bytes(), b) {
			t.Errorf("a record does not re-encode to itself")
		}
		_ = r.Verify(testNet)
		_, _, _ = r.id(), r.sealed(), r.hasTag([2]byte{1, 2})
	})
}

func FuzzDecodeBody(f *testing.F) {
	for _, it := range []Item{item("a name"), {Name: "n", Ref: inline(f), Kind: chunk.Folder}} {
		b, _, err := encodeBody(it, sourceMark{1}, 1)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		it, mark, err := decodeBody(b)
		if err != nil {
			return
		}
		if len(b) == shortBody {
			if again, form, err := encodeBody(it, mark, 1); err != nil || form != 0 || !bytes.Equal(again, b) {
				t.Errorf("a body does not re-encode to itself: %v", err)
			}
		}
	})
}

func FuzzParseMessage(f *testing.F) {
	recs := samples(f)
	f.Add(encodePut(recs))
	f.Add(getAnswer{More: true, Total: 7, Records: recs[:2]}.encode())
	f.Add(getRequest{Kind: Posting, Limit: 5, Tags: [][2]byte{{1, 2}}}.encode())
	f.Add(encodeCopies(3, []byte{1, 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := parseGet(b); err == nil && !bytes.Equal(g.encode(), b) {
			t.Errorf("a get does not re-encode to itself")
		}
		if a, err := parseGot(b); err == nil && !bytes.Equal(a.encode(), b) {
			t.Errorf("an answer does not re-encode to itself")
		}
		if r, err := parsePut(b); err == nil && !bytes.Equal(encodePut(r), b) {
			t.Errorf("a put does not re-encode to itself")
		}
		for n := range 4 {
			if c, err := parseCopies(b, n); err == nil && len(c) != n {
				t.Errorf("got %d copies, want %d", len(c), n)
			}
		}
	})
}

func FuzzUnmarshalGroup(f *testing.F) {
	g, _ := NewGroup(testNet)
	b, _ := g.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := UnmarshalGroup(testNet, b)
		if err != nil {
			return
		}
		if again, _ := g.MarshalBinary(); !bytes.Equal(again, b) {
			t.Errorf("a group does not re-encode to itself")
		}
	})
}
