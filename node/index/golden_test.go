package index

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"testing"
	"time"

	"wanderfs/cache/chunk"
)

// TestRecordsGolden freezes the bytes of each kind of record.
func TestRecordsGolden(t *testing.T) {
	end := time.Unix(1_800_000_000, 0)
	g := Group{network: testNet, secret: [32]byte{1, 2, 3}}
	batch := &Batch{network: testNet, key: ed25519.NewKeyFromSeed(make([]byte, 32)), group: &g}
	public := batch.key.Public().(ed25519.PublicKey)
	it := Item{Name: "Kind of Blue.flac", Ref: chunk.Raw([]byte("content")), Kind: chunk.File, Size: 7}
	plain, form, err := encodeBody(it, g.mark(it.Ref.Multihash()), 4)
	if err != nil {
		t.Fatal(err)
	}
	k := keysOf("blue")
	nonce := mac(k.nonce, public, plain)
	sealed := sealWith(nil, k.seal, [nonceSize]byte(nonce[:nonceSize]), plain, []byte(labelWord))
	posting := newRecord(testNet, Posting, form, k.addr, end, 0, [2]byte{classOf(it.Name, it.Kind), logSize(it.Size)},
		tagList(k, "blue", Tokens(it.Name), form, public, plain), sealed, batch.key)
	addr, seal := g.Address(), g.sealKey()
	ck := keysOfContent(it.Ref.Multihash())
	pkey := mac(g.secret, []byte("pointer"), it.Ref.Multihash())
	pointer := newRecord(testNet, Pointer, 0, ck.addr, end, 0, [2]byte{}, nil,
		sealWith(nil, ck.seal, [nonceSize]byte{9}, append(addr[:], seal[:]...), []byte(labelPointer)), ed25519.NewKeyFromSeed(pkey[:]))
	group := newRecord(testNet, GroupInfo, 0, addr, end, 5, [2]byte{}, nil,
		sealWith(nil, seal, [nonceSize]byte{9}, source(3), []byte(labelGroup)), g.writeKey())
	var out string
	for _, r := range []Record{posting, pointer, group} {
		if err := r.Verify(testNet); err != nil {
			t.Error(err)
		}
		b := r.b
		if r.Kind() == GroupInfo {
			b = b[:headerLength] // the rest is as long as a wire.Source
		}
		out += fmt.Sprintf("kind %d\n%x\n", r.Kind(), b)
	}
	golden(t, "testdata/records.golden", out)
	// What Postings makes is the same but for the expiry's rounding.
	made, _ := batch.Postings(it, end)
	if i := slices.IndexFunc(made, func(r Record) bool { return r.Address() == k.addr }); i < 0 || made[i].id() != posting.id() || !slices.Equal(made[i].tags(), posting.tags()) {
		t.Errorf("Postings makes other records than the golden one")
	}
}
