package cache

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"sync"

	"wanderfs/cache/chunk"
)

// keySize is the length in bytes of the key that all others come from.
const keySize = 32

// name is what a chunk is called on disk and in the index.
type name [16]byte

func (n name) String() string { return hex.EncodeToString(n[:]) }

// slot is where one chunk lies and how its body is encrypted.
type slot struct {
	name name
	iv   [aes.BlockSize]byte
}

// keys are derived from the cache's key, one for each use.
type keys struct {
	names sync.Pool    // hash.Hash, HMAC-SHA256: multihash -> slot
	body  cipher.Block // AES-256 of chunk bodies
	small cipher.AEAD  // AES-256-GCM of sealed files and pin records
	mark  [sha256.Size]byte
}

func newKeys(master []byte) (*keys, error) {
	derive := func(use string) ([]byte, error) {
		return hkdf.Key(sha256.New, master, nil, "wanderfs cache v1 "+use, 32)
	}
	var parts [4][]byte
	for i, use := range []string{"names", "bodies", "sealed", "mark"} {
		var err error
		if parts[i], err = derive(use); err != nil {
			return nil, fmt.Errorf("derive keys: %w", err)
		}
	}
	k := &keys{mark: [32]byte(parts[3])}
	k.names.New = func() any { return hmac.New(sha256.New, parts[0]) }
	var err error
	if k.body, err = aes.NewCipher(parts[1]); err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	b, err := aes.NewCipher(parts[2])
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	if k.small, err = cipher.NewGCMWithRandomNonce(b); err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	return k, nil
}

func newMaster() []byte {
	m := make([]byte, keySize)
	_, _ = rand.Read(m) // never fails: crypto/rand ends the program instead
	return m
}

// slot returns where the chunk of r lies. Name and IV are the two halves of
// one HMAC of the multihash. The IV is the same whenever this chunk is
// written, which gives nothing away: so is the plaintext.
func (k *keys) slot(r chunk.Ref) slot {
	// Looked up for every read and look ahead: a used HMAC has its key hashed.
	h := k.names.Get().(hash.Hash)
	defer k.names.Put(h)
	h.Reset()
	h.Write(r.Multihash())
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return slot{name(sum[:16]), [16]byte(sum[16:])}
}

// crypt encrypts or decrypts (the same in counter mode) the bytes of a body
// from off on, src into dst, which may be one slice.
func (k *keys) crypt(s slot, dst, src []byte, off int64) {
	iv := s.iv
	lo := binary.BigEndian.Uint64(iv[8:])
	blocks := uint64(off) / aes.BlockSize
	binary.BigEndian.PutUint64(iv[8:], lo+blocks)
	if lo+blocks < lo {
		binary.BigEndian.PutUint64(iv[:8], binary.BigEndian.Uint64(iv[:8])+1)
	}
	stream := cipher.NewCTR(k.body, iv[:])
	if skip := off % aes.BlockSize; skip > 0 {
		var drop [aes.BlockSize]byte
		stream.XORKeyStream(drop[:skip], drop[:skip])
	}
	stream.XORKeyStream(dst, src)
}
