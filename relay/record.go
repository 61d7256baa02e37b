package relay

import (
	"crypto/cipher"
	"encoding/binary"
	"time"

	"wanderfs/relay/wire"
)

// record seals or opens the records of one direction of a stream, one in each
// cell. The nonce holds the kind of record and a counter. The keys turn as
// those of a layer do: after turnAfter records, and when who seals finds them
// old. SPEC.md §9
type record struct {
	aead  cipher.AEAD
	next  [32]byte // secret of the epoch that follows
	n     uint64
	first uint64 // the epoch's first record
	began time.Time
	age   time.Duration // seal: turn when so old; open: it may have been
	nonce [12]byte
	kept  []byte // open: of a record that may be of the next epoch
}

const (
	kindData = 0
	kindEnd  = 1
)

func newRecord(secret *[32]byte, age time.Duration) *record {
	r := &record{next: *secret, age: age}
	r.turn()
	return r
}

// turn goes on to the next epoch.
func (r *record) turn() {
	k := wire.DeriveEpoch(r.next)
	_, r.aead = newGCM(&k.Key)
	r.next, r.first, r.began = k.Next, r.n, time.Now()
	clear(k.Key[:])
}

func (r *record) step(kind byte) error {
	if r.n >= maxFrames {
		return errSpent
	}
	if r.n-r.first >= turnAfter {
		r.turn()
	}
	r.nonce[0] = kind
	binary.BigEndian.PutUint64(r.nonce[4:], r.n)
	r.n++
	return nil
}

// seal seals the plaintext at the beginning of data, in place; there must be
// room for the tag.
func (r *record) seal(kind byte, data []byte) ([]byte, error) {
	if time.Since(r.began) >= r.age {
		r.turn()
	}
	if err := r.step(kind); err != nil {
		return nil, err
	}
	return r.aead.Seal(data[:0], r.nonce[:], data, nil), nil
}

// open verifies and opens data in place.
func (r *record) open(kind byte, data []byte) ([]byte, error) {
	if len(data) < wire.TagSize {
		return nil, errTag
	}
	old := time.Since(r.began) >= r.age
	if err := r.step(kind); err != nil {
		return nil, err
	}
	if old {
		r.kept = append(r.kept[:0], data...)
	}
	b, err := r.aead.Open(data[:0], r.nonce[:], data, nil)
	if err != nil && old {
		r.n--
		r.turn()
		r.n++
		copy(data, r.kept)
		b, err = r.aead.Open(data[:0], r.nonce[:], data, nil)
	}
	if err != nil {
		return nil, errTag
	}
	return b, nil
}
