package relay

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"wanderfs/relay/wire"
)

// record seals or opens the records of one direction of a stream, one in each
// cell. The nonce holds the kind of record and a counter. SPEC.md §9
type record struct {
	aead  cipher.AEAD
	n     uint64
	nonce [12]byte
}

const (
	kindData = 0
	kindEnd  = 1
)

func newRecord(key *[32]byte) *record {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &record{aead: aead}
}

func (r *record) step(kind byte) error {
	if r.n >= maxFrames {
		return errSpent
	}
	r.nonce[0] = kind
	binary.BigEndian.PutUint64(r.nonce[4:], r.n)
	r.n++
	return nil
}

// seal seals the plaintext at the beginning of data, in place; there must be
// room for the tag.
func (r *record) seal(kind byte, data []byte) ([]byte, error) {
	if err := r.step(kind); err != nil {
		return nil, err
	}
	return r.aead.Seal(data[:0], r.nonce[:], data, nil), nil
}

// open verifies and opens data in place.
func (r *record) open(kind byte, data []byte) ([]byte, error) {
	if err := r.step(kind); err != nil {
		return nil, err
	}
	if len(data) < wire.TagSize {
		return nil, errTag
	}
	b, err := r.aead.Open(data[:0], r.nonce[:], data, nil)
	if err != nil {
		return nil, errTag
	}
	return b, nil
}
