package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"time"
)

const (
	// MaxGateways is how many gateways a source names. SPEC.md §5
	MaxGateways = 3
	// SourceSize is the length of every source record in bytes. SPEC.md §5
	SourceSize = 1 + 32 + PublicKeySize + 32 + 8 + 1 + MaxGateways*DescriptorSize + 64
)

// SessionKeys are the public keys of a session. They live and die with it.
type SessionKeys struct {
	Sign [32]byte  // Ed25519
	Key  PublicKey // ML-KEM-768 and X25519
}

// Number returns the session's number, SHA-256 over a label, the version, the
// suite and the keys. SPEC.md §2
func (k SessionKeys) Number() SessionNumber {
	h := sha256.New()
	h.Write([]byte("wanderfs/session/1\x00"))
	h.Write([]byte{Version, Suite})
	h.Write(k.Sign[:])
	h.Write(k.Key[:])
	return SessionNumber(h.Sum(nil))
}

// Source tells a reader how to meet a publisher's session: the gateways where
// it listens and the secret that opens them. It is signed by the session.
type Source struct {
	Keys     SessionKeys
	Join     [32]byte // join secret; gateways hold verifiers derived from it
	Expires  time.Time
	Gateways []Descriptor
	Sig      [64]byte
}

func sourceLabel(network string) string { return "wanderfs/" + network + "/source/1\x00" }

func (s Source) body() []byte {
	b := make([]byte, 0, SourceSize)
	b = append(b, Version)
	b = append(b, s.Keys.Sign[:]...)
	b = append(b, s.Keys.Key[:]...)
	b = append(b, s.Join[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Expires.Unix()))
	b = append(b, byte(len(s.Gateways)))
	for i := range MaxGateways {
		if i < len(s.Gateways) {
			b, _ = s.Gateways[i].AppendBinary(b)
			continue
		}
		b = append(b, make([]byte, DescriptorSize)...)
	}
	return b
}

// Sign signs s with the session's key.
func (s *Source) Sign(key ed25519.PrivateKey, network string) {
	copy(s.Sig[:], ed25519.Sign(key, append([]byte(sourceLabel(network)), s.body()...)))
}

// Verify checks the session's signature, the gateways' own and the time. A
// gateway's descriptor may have expired though the session lives, if its onion
// key has been replaced: see Gateways, and Descriptor.Verify.
func (s Source) Verify(network string, now time.Time) error {
	if !ed25519.Verify(s.Keys.Sign[:], append([]byte(sourceLabel(network)), s.body()...), s.Sig[:]) {
		return ErrBadSignature
	}
	if !now.Before(s.Expires) {
		return ErrExpired
	}
	for _, g := range s.Gateways {
		if err := g.Verify(network, now); err != nil && !errors.Is(err, ErrExpired) {
			return err
		}
	}
	return nil
}

// AppendBinary appends the SourceSize bytes of s. More than MaxGateways or an
// unencodable gateway gives an error.
func (s Source) AppendBinary(b []byte) ([]byte, error) {
	if len(s.Gateways) > MaxGateways {
		return b, ErrMalformed
	}
	for _, g := range s.Gateways {
		if len(g.Addrs) > MaxAddrs || g.Onion == nil {
			return b, ErrMalformed
		}
	}
	b = append(b, s.body()...)
	return append(b, s.Sig[:]...), nil
}

// ParseSource reads exactly SourceSize bytes. It verifies nothing.
func ParseSource(b []byte) (Source, error) {
	var s Source
	if len(b) != SourceSize || b[0] != Version {
		return s, ErrMalformed
	}
	copy(s.Keys.Sign[:], b[1:])
	copy(s.Keys.Key[:], b[33:])
	b = b[33+PublicKeySize:]
	copy(s.Join[:], b)
	exp := binary.BigEndian.Uint64(b[32:])
	n := int(b[40])
	b = b[41:]
	if exp > 1<<40 || n > MaxGateways {
		return Source{}, ErrMalformed
	}
	s.Expires = time.Unix(int64(exp), 0)
	for i := range MaxGateways {
		d := b[i*DescriptorSize : (i+1)*DescriptorSize]
		if i >= n {
			if !zero(d) {
				return Source{}, ErrMalformed
			}
			continue
		}
		g, err := ParseDescriptor(d)
		if err != nil {
			return Source{}, err
		}
		s.Gateways = append(s.Gateways, g)
	}
	copy(s.Sig[:], b[MaxGateways*DescriptorSize:])
	return s, nil
}

// String hides the source.
func (Source) String() string { return "[source]" }

// GoString hides the source.
func (Source) GoString() string { return "[source]" }

// LogValue hides the source.
func (Source) LogValue() slog.Value { return slog.StringValue("[source]") }
