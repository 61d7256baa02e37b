package index

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

// BatchSize is how many postings one batch key signs.
const BatchSize = 64

// MaxName is the longest name in bytes that a posting carries.
const MaxName = 255

// ErrBatchFull says that a batch has no room for all postings of an item: put
// the item into a new batch.
var ErrBatchFull = errors.New("batch is full")

// ErrNoWords says that a name holds no word, so that no search could find it.
var ErrNoWords = errors.New("name holds no word")

// ErrNameLength says that a name is longer than MaxName bytes.
var ErrNameLength = errors.New("name too long")

// Item is what a publisher wants to be found.
type Item struct {
	Name string // as shown to readers; at most MaxName bytes
	Ref  chunk.Ref
	Kind chunk.Kind
	Size int64 // bytes
}

// Batch signs postings with a key that is used for nothing else and tied to no
// session. It is not safe for concurrent use.
type Batch struct {
	network string
	key     ed25519.PrivateKey
	used    int
	group   *Group // whose shares it publishes; nil: nobody's
}

// sourceMark is the same in all postings by which one group of shares publishes
// one content, whatever batch they are in. Batch keys are new at each restart
// and each refresh, since a key goes over one path only; without the mark what
// one publisher put three times within three days would count as three sources.
//
// The mark is sealed with the name: who reads it knows the content's hash and
// so can read the pointer, which tells the group itself. Marks of two contents
// or of two groups have nothing in common.
type sourceMark [8]byte

func (g Group) mark(multihash []byte) sourceMark {
	m := mac(g.secret, []byte("source"), multihash)
	return sourceMark(m[:])
}

// NewBatch makes a batch with a fresh key for shares of g.
func (g Group) NewBatch() (*Batch, error) {
	b, err := NewBatch(g.network)
	if err == nil {
		b.group = &g
	}
	return b, err
}

func (b *Batch) mark(it Item) sourceMark {
	switch {
	case it.Ref.IsZero():
		return sourceMark{} // refused later
	case b.group == nil:
		return Group{secret: [32]byte(b.key.Seed())}.mark(it.Ref.Multihash())
	}
	return b.group.mark(it.Ref.Multihash())
}

// NewBatch makes a batch with a fresh key for one network ("" is "main"), for
// shares of no group: what it publishes counts as a source of its own.
func NewBatch(network string) (*Batch, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make batch key: %w", err)
	}
	return &Batch{network: network, key: key}, nil
}

// Room returns how many more postings b can sign.
func (b *Batch) Room() int { return BatchSize - b.used }

// Postings seals and signs one posting for each word of the item's name. All
// or none: ErrBatchFull leaves the batch as it was. An empty batch has room
// for every item. Expiries more than two hours ahead are rounded down to the
// hour.
func (b *Batch) Postings(it Item, expires time.Time) ([]Record, error) {
	if len(it.Name) > MaxName {
		return nil, ErrNameLength
	}
	words := Tokens(it.Name)
	if len(words) == 0 {
		return nil, ErrNoWords
	}
	if len(words) > b.Room() {
		return nil, ErrBatchFull
	}
	plain, form, err := encodeBody(it, b.mark(it), len(words))
	if err != nil {
		return nil, err
	}
	facets := [2]byte{classOf(it.Name, it.Kind), logSize(it.Size)}
	// The batch key goes into what is derived from the content, so that equal
	// bytes do not show that two batches hold the same. Equal tags still hint at
	// equal names, whoever published them.
	public := b.key.Public().(ed25519.PublicKey)
	recs := make([]Record, 0, len(words))
	for _, w := range words {
		k := keysOf(w)
		nonce := mac(k.nonce, public, plain)
		sealed := sealWith(nil, k.seal, [nonceSize]byte(nonce[:nonceSize]), plain, []byte(labelWord))
		recs = append(recs, newRecord(b.network, Posting, form, k.addr, coarse(expires), 0, facets, tagList(k, w, words, form, public, plain), sealed, b.key))
	}
	b.used += len(words)
	return recs, nil
}

// tagList blinds the other words under k and fills up with tags that look the
// same, so that the number of words stays hidden.
func tagList(k wordKeys, word string, words []string, form byte, seed ...[]byte) []byte {
	n := shortTags
	if form == 1 {
		n = longTags
	}
	tags := make([]uint16, 0, n)
	for _, o := range words {
		if o != word {
			t := k.tagOf(o)
			tags = append(tags, binary.BigEndian.Uint16(t[:]))
		}
	}
	for len(tags) < n {
		m := mac(k.nonce, append([][]byte{{'f', byte(len(tags))}}, seed...)...)
		tags = append(tags, binary.BigEndian.Uint16(m[:]))
	}
	slices.Sort(tags)
	out := make([]byte, 0, 2*n)
	for _, t := range tags {
		out = binary.BigEndian.AppendUint16(out, t)
	}
	return out
}

// Body of a posting before sealing, padded with zeros to one of two lengths:
// kind 1, size 8, codec 1 (0 raw, 1 dag-pb), source mark 8, multihash length 1,
// multihash, name length 1, name.
func encodeBody(it Item, mark sourceMark, words int) ([]byte, byte, error) {
	if it.Ref.IsZero() || it.Size < 0 || it.Kind > chunk.Symlink {
		return nil, 0, fmt.Errorf("encode item: %w", wire.ErrMalformed)
	}
	mh := it.Ref.Multihash()
	codec := byte(1)
	if it.Ref.IsRaw() {
		codec = 0
	}
	b := make([]byte, 0, longBody)
	b = append(b, byte(it.Kind))
	b = binary.BigEndian.AppendUint64(b, uint64(it.Size))
	b = append(b, codec)
	b = append(b, mark[:]...)
	b = append(b, byte(len(mh)))
	b = append(b, mh...)
	b = append(b, byte(len(it.Name)))
	b = append(b, it.Name...)
	if len(b) <= shortBody && words-1 <= shortTags {
		return b[:shortBody], 0, nil
	}
	if len(b) > longBody {
		return nil, 0, fmt.Errorf("encode item: %w", wire.ErrMalformed)
	}
	return b[:longBody], 1, nil
}

func decodeBody(b []byte) (it Item, mark sourceMark, err error) {
	if len(b) != shortBody && len(b) != longBody {
		return Item{}, sourceMark{}, wire.ErrMalformed
	}
	size, n := binary.BigEndian.Uint64(b[1:9]), int(b[18])
	if b[0] > byte(chunk.Symlink) || size > 1<<62 || b[9] > 1 || 19+n >= len(b) {
		return Item{}, sourceMark{}, wire.ErrMalformed
	}
	mh, rest := multihash.Multihash(b[19:19+n]), b[19+n:]
	if 1+int(rest[0]) > len(rest) {
		return Item{}, sourceMark{}, wire.ErrMalformed
	}
	name, pad := rest[1:1+int(rest[0])], rest[1+int(rest[0]):]
	for _, x := range pad {
		if x != 0 {
			return Item{}, sourceMark{}, wire.ErrMalformed
		}
	}
	if _, err := multihash.Decode(mh); err != nil {
		return Item{}, sourceMark{}, wire.ErrMalformed
	}
	codec := uint64(cid.DagProtobuf)
	if b[9] == 0 {
		codec = cid.Raw
	}
	ref, err := chunk.FromCID(cid.NewCidV1(codec, append(multihash.Multihash(nil), mh...)))
	if err != nil {
		return Item{}, sourceMark{}, wire.ErrMalformed
	}
	return Item{Name: string(name), Ref: ref, Kind: chunk.Kind(b[0]), Size: int64(size)}, sourceMark(b[10:]), nil
}

// openPosting opens a posting of a word.
func openPosting(k wordKeys, r Record) (Item, sourceMark, error) {
	if r.Kind() != Posting || r.Address() != k.addr {
		return Item{}, sourceMark{}, wire.ErrMalformed
	}
	p, err := openWith(k.seal, r.sealed(), []byte(labelWord))
	if err != nil {
		return Item{}, sourceMark{}, err
	}
	return decodeBody(p)
}
