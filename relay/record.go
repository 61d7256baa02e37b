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
// old. Who opens follows by trying, however long ago the record came: records
// wait for as long as nobody reads, and no clock tells how old they were when
// they were sealed. SPEC.md §9
type record struct {
	aead  cipher.AEAD
	next  [32]byte // secret of the epoch that follows
	n     uint64
	first uint64 // the epoch's first record
	began time.Time
	age   time.Duration // seal: turn when so old
	nonce [12]byte
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

// open verifies data and appends its plaintext to dst, which is not to overlap
// it: if it does not open under this epoch it is tried under the next one, once.
// Who seals goes on by one epoch a record at most. After an error nothing more
// can be opened.
func (r *record) open(kind byte, dst, data []byte) ([]byte, error) {
	if len(data) < wire.TagSize {
		return nil, errTag
	}
	counted := r.n-r.first >= turnAfter
	if err := r.step(kind); err != nil {
		return nil, err
	}
	b, err := r.aead.Open(dst, r.nonce[:], data, nil)
	if err != nil && !counted {
		r.n--
		r.turn()
		r.n++
		b, err = r.aead.Open(dst, r.nonce[:], data, nil)
	}
	if err != nil {
		return nil, errTag
	}
	return b, nil
}
