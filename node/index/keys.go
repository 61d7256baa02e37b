package index

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
)

// Labels of version 1. Addresses and keys of words and of content do not
// depend on the network's name; signatures do (see label in record.go).
const (
	labelWord    = "wanderfs/index/word/1"
	labelPointer = "wanderfs/index/pointer/1"
	labelGroup   = "wanderfs/index/group/1"
)

const (
	nonceSize = 12
	sealExtra = nonceSize + 16 // what sealing adds, in bytes
)

var errOpen = errors.New("record does not open")

// derive is HKDF-SHA256. It cannot fail for 32 bytes.
func derive(secret []byte, salt, info string) [32]byte {
	k, err := hkdf.Key(sha256.New, secret, []byte(salt), info, 32)
	if err != nil {
		panic(err) // only for lengths that no caller asks for
	}
	return [32]byte(k)
}

// mac is HMAC-SHA256 over the concatenated parts.
func mac(key [32]byte, parts ...[]byte) [32]byte {
	h := hmac.New(sha256.New, key[:])
	for _, p := range parts {
		h.Write(p)
	}
	return [32]byte(h.Sum(nil))
}

// wordKeys are all that follows from K_w = HKDF(word, TokeniserID, labelWord).
type wordKeys struct {
	addr  [32]byte // where postings of the word live
	seal  [32]byte
	nonce [32]byte
	tag   [32]byte // blinds the other words of a name
}

func keysOf(word string) wordKeys {
	kw := derive([]byte(word), TokeniserID, labelWord)
	return wordKeys{
		addr:  mac(kw, []byte("address")),
		seal:  mac(kw, []byte("seal")),
		nonce: mac(kw, []byte("nonce")),
		tag:   mac(kw, []byte("tag")),
	}
}

// tagOf is the blinded tag of another word of the same name.
func (k wordKeys) tagOf(other string) [2]byte {
	m := mac(k.tag, []byte(other))
	return [2]byte(m[:2])
}

// contentKeys are what follows from a multihash.
type contentKeys struct{ addr, seal [32]byte }

func keysOfContent(multihash []byte) contentKeys {
	k := derive(multihash, "", labelPointer)
	return contentKeys{addr: mac(k, []byte("address")), seal: mac(k, []byte("seal"))}
}

func gcm(key [32]byte) cipher.AEAD {
	b, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only for other key lengths
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		panic(err) // only for other block sizes
	}
	return a
}

// sealWith appends nonce and ciphertext to dst.
func sealWith(dst []byte, key [32]byte, nonce [nonceSize]byte, plain, ad []byte) []byte {
	dst = append(dst, nonce[:]...)
	return gcm(key).Seal(dst, nonce[:], plain, ad)
}

func randomNonce() (n [nonceSize]byte) {
	rand.Read(n[:]) // never fails
	return n
}

func openWith(key [32]byte, sealed, ad []byte) ([]byte, error) {
	if len(sealed) < sealExtra {
		return nil, errOpen
	}
	p, err := gcm(key).Open(nil, sealed[:nonceSize], sealed[nonceSize:], ad)
	if err != nil {
		return nil, errOpen
	}
	return p, nil
}
