package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"log/slog"
)

// The hybrid handshake, in one round trip. A relay of a path and a session at
// the end of a stream are met in the same way. SPEC.md §6
//
//	initiator                                       responder, owner of key K
//	E: a new key pair
//	enc, c1 = HPKE to K, bound to name
//	    ---- enc | seal by c1 (E's public half | more) ---->
//	                                  enc2, c2 = HPKE to E, bound to name
//	    <--- enc2 | tag -------------------------------
//	keys = HKDF(export of c2 | export of c1, salt = transcript hash)
//
// HPKE is RFC 9180's with MLKEM768-X25519, HKDF-SHA256 and AES-256-GCM: who
// breaks one of X25519 and ML-KEM-768 has nothing. c1 makes sure who answers;
// c2, whose keys both live for one handshake, makes the keys forward secret.
const (
	// PublicKeySize is the length of a hybrid public key: ML-KEM-768 (1184),
	// X25519 (32).
	PublicKeySize = 1184 + 32
	// EncSize is the length of an encapsulation: ML-KEM-768 (1088), X25519 (32).
	EncSize = 1088 + 32
	// SeedSize is the length of a hybrid private key.
	SeedSize = 32
	// Suite is the number of this set of algorithms, the only one of version 1.
	Suite = 1
)

// PublicKey is a hybrid public key, as HPKE's MLKEM768-X25519 encodes it.
type PublicKey [PublicKeySize]byte

// OnionHash names an onion key in what a descriptor signs. SPEC.md §4
func (k *PublicKey) OnionHash() [32]byte {
	h := sha256.New()
	h.Write([]byte("wanderfs/onion/1\x00"))
	h.Write(k[:])
	return [32]byte(h.Sum(nil))
}

// String hides the key.
func (PublicKey) String() string { return "[key]" }

// GoString hides the key.
func (PublicKey) GoString() string { return "[key]" }

// LogValue hides the key.
func (PublicKey) LogValue() slog.Value { return slog.StringValue("[key]") }

// PrivateKey is a hybrid private key. It is safe for concurrent use. Go does
// not let a program overwrite it: it goes with the memory once it is dropped.
type PrivateKey struct {
	k   hpke.PrivateKey
	pub PublicKey
}

// NewPrivateKey makes a new key.
func NewPrivateKey() (*PrivateKey, error) {
	k, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return nil, err
	}
	return wrapKey(k), nil
}

// ParsePrivateKey takes a seed of SeedSize bytes, as vectors have it.
func ParsePrivateKey(seed []byte) (*PrivateKey, error) {
	k, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
	if err != nil {
		return nil, ErrMalformed
	}
	return wrapKey(k), nil
}

func wrapKey(k hpke.PrivateKey) *PrivateKey {
	return &PrivateKey{k: k, pub: PublicKey(k.PublicKey().Bytes())}
}

// Public gives the public half.
func (k *PrivateKey) Public() *PublicKey { return &k.pub }

// String hides the key.
func (*PrivateKey) String() string { return "[key]" }

// GoString hides the key.
func (*PrivateKey) GoString() string { return "[key]" }

// LogValue hides the key.
func (*PrivateKey) LogValue() slog.Value { return slog.StringValue("[key]") }

// initiator is the first half of a handshake at who began it.
type initiator struct {
	info []byte
	enc  [EncSize]byte
	send *hpke.Sender
	own  *PrivateKey
}

// initiate begins a handshake with the owner of key; info says what for.
func initiate(info []byte, key *PublicKey) (*initiator, error) {
	pk, err := hpke.MLKEM768X25519().NewPublicKey(key[:])
	if err != nil {
		return nil, ErrMalformed
	}
	enc, send, err := hpke.NewSender(pk, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		return nil, ErrMalformed
	}
	own, err := NewPrivateKey()
	if err != nil {
		return nil, err
	}
	return &initiator{info: info, enc: [EncSize]byte(enc), send: send, own: own}, nil
}

// finish takes the answer and gives the handshake's secret.
func (i *initiator) finish(answer []byte) (secret, error) {
	r, err := hpke.NewRecipient(answer, i.own.k, hpke.HKDFSHA256(), hpke.AES256GCM(), i.info)
	if err != nil {
		return secret{}, ErrMalformed
	}
	return mix(i.info, i.enc[:], i.own.pub[:], answer, r, i.send)
}

// responder is a handshake at who answers, once the first message is open.
type responder struct {
	info []byte
	enc  [EncSize]byte
	recv *hpke.Recipient
}

func receive(info []byte, key *PrivateKey, enc []byte) (*responder, error) {
	recv, err := hpke.NewRecipient(enc, key.k, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		return nil, ErrMalformed
	}
	return &responder{info: info, enc: [EncSize]byte(enc), recv: recv}, nil
}

// answer makes the second message for the initiator's key, and the secret.
func (r *responder) answer(share []byte) ([EncSize]byte, secret, error) {
	var out [EncSize]byte
	pk, err := hpke.MLKEM768X25519().NewPublicKey(share)
	if err != nil {
		return out, secret{}, ErrMalformed
	}
	enc, send, err := hpke.NewSender(pk, hpke.HKDFSHA256(), hpke.AES256GCM(), r.info)
	if err != nil {
		return out, secret{}, ErrMalformed
	}
	copy(out[:], enc)
	s, err := mix(r.info, r.enc[:], share, out[:], send, r.recv)
	return out, s, err
}

// exporter is both ends' HPKE context.
type exporter interface {
	Export(context string, length int) ([]byte, error)
}

// export takes 32 bytes from a context that has a key schedule of SHA-256.
func export(c exporter, label string) ([32]byte, error) {
	b, err := c.Export(label, 32)
	if err != nil {
		return [32]byte{}, err
	}
	defer clear(b)
	return [32]byte(b), nil
}

// secret is what a finished handshake leaves.
type secret struct {
	ikm  [64]byte
	hash [32]byte
}

// mix makes the secret from both contexts and all that was said.
func mix(info, enc, share, answer []byte, fresh, static exporter) (secret, error) {
	var s secret
	a, err := export(fresh, "wanderfs/secret/1")
	if err != nil {
		return s, err
	}
	b, err := export(static, "wanderfs/secret/1")
	if err != nil {
		return s, err
	}
	copy(s.ikm[:32], a[:])
	copy(s.ikm[32:], b[:])
	h := sha256.New()
	for _, p := range [][]byte{info, enc, share, answer} {
		h.Write(p)
	}
	s.hash = [32]byte(h.Sum(nil))
	return s, nil
}

// derive makes n keys of 32 bytes and forgets the secret.
func (s *secret) derive(info string, n int) [][32]byte {
	b, err := hkdf.Key(sha256.New, s.ikm[:], s.hash[:], info, 32*n)
	if err != nil { // only for n beyond 255
		panic(err)
	}
	out := make([][32]byte, n)
	for i := range out {
		out[i] = [32]byte(b[32*i:])
	}
	clear(b)
	clear(s.ikm[:])
	return out
}

// confirm gives AES-256-GCM under a key that is used once.
func confirm(key *[32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// blind xors the AES-256-CTR keystream of key into b. A key is used once.
func blind(key *[32]byte, b []byte) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	var iv [16]byte
	cipher.NewCTR(block, iv[:]).XORKeyStream(b, b)
}
