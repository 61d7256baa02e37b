package wire

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
)

// CircuitKeys are the secrets from which a relay's keys for one circuit come,
// one for each direction. SPEC.md §10
type CircuitKeys struct {
	Forward, Backward [32]byte
}

// EpochKeys are what a direction of a hop, or of a stream, uses until it turns.
// SPEC.md §10
type EpochKeys struct {
	Key    [32]byte // AES-256-GCM
	Filler [32]byte // AES-256, of a forward hop
	Next   [32]byte // secret of the next epoch
}

// DeriveEpoch makes the keys of an epoch from its secret.
func DeriveEpoch(secret [32]byte) EpochKeys {
	b, err := hkdf.Expand(sha256.New, secret[:], "wanderfs/epoch/1", 96)
	if err != nil {
		panic(err) // only for more than 255 hashes
	}
	defer clear(b)
	return EpochKeys{Key: [32]byte(b), Filler: [32]byte(b[32:]), Next: [32]byte(b[64:])}
}

// Verifier is what a gateway gets of a session's join secret: enough to check
// a MAC there, and of no use at another gateway. SPEC.md §8.1
func Verifier(join [32]byte, gateway NodeID) [32]byte {
	b, err := hkdf.Key(sha256.New, join[:], gateway[:], "wanderfs/join/verifier/1", 32)
	if err != nil {
		panic(err)
	}
	return [32]byte(b)
}

// JoinMAC proves knowledge of the join secret on one circuit, named by its
// handshake hash. SPEC.md §8.2
func JoinMAC(verifier, circuit [32]byte, n SessionNumber) [32]byte {
	h := hmac.New(sha256.New, verifier[:])
	h.Write([]byte("wanderfs/join/1\x00"))
	h.Write(circuit[:])
	h.Write(n[:])
	return [32]byte(h.Sum(nil))
}

// listenMessage is what a session signs to make a gateway listen for it.
func (l Listen) listenMessage(network string, gateway NodeID, circuit [32]byte) []byte {
	b := []byte("wanderfs/" + network + "/listen/1\x00")
	b = append(b, gateway[:]...)
	b = append(b, circuit[:]...)
	b = append(b, l.Keys.Key[:]...)
	return append(append(b, l.Verifier[:]...), l.Effort)
}

// Sign signs l for one gateway and one circuit, named by its handshake hash.
func (l *Listen) Sign(key ed25519.PrivateKey, network string, gateway NodeID, circuit [32]byte) {
	copy(l.Sig[:], ed25519.Sign(key, l.listenMessage(network, gateway, circuit)))
}

// Verify checks the session's signature for this gateway and circuit.
func (l Listen) Verify(network string, gateway NodeID, circuit [32]byte) error {
	if !ed25519.Verify(l.Keys.Sign[:], l.listenMessage(network, gateway, circuit), l.Sig[:]) {
		return ErrBadSignature
	}
	return nil
}
