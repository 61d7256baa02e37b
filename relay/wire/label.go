package wire

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
)

// CircuitPrologue is the Noise prologue of a relay's handshake. SPEC.md §6
func CircuitPrologue(network string, relay NodeID) []byte {
	return append([]byte("wanderfs/"+network+"/circuit/1\x00"), relay[:]...)
}

// StreamPrologue is the Noise prologue of the end-to-end handshake.
// SPEC.md §9
func StreamPrologue(network string, n SessionNumber) []byte {
	return append([]byte("wanderfs/"+network+"/stream/1\x00"), n[:]...)
}

// CircuitKeys are a relay's keys for one circuit. SPEC.md §6
type CircuitKeys struct {
	Forward, Backward, Filler [32]byte
}

// DeriveCircuitKeys makes the keys from what the Noise handshake gave: both
// transport keys and the handshake hash.
func DeriveCircuitKeys(k1, k2, hash [32]byte) CircuitKeys {
	b := derive(k1, k2, hash, "wanderfs/circuit/keys/1", 96)
	defer clear(b)
	return CircuitKeys{Forward: [32]byte(b), Backward: [32]byte(b[32:]), Filler: [32]byte(b[64:])}
}

// StreamKeys are the keys of an end-to-end stream. SPEC.md §9
type StreamKeys struct {
	ToSession, ToReader [32]byte
}

// DeriveStreamKeys makes a stream's keys from its handshake.
func DeriveStreamKeys(k1, k2, hash [32]byte) StreamKeys {
	b := derive(k1, k2, hash, "wanderfs/stream/keys/1", 64)
	defer clear(b)
	return StreamKeys{ToSession: [32]byte(b), ToReader: [32]byte(b[32:])}
}

func derive(k1, k2, hash [32]byte, info string, n int) []byte {
	ikm := append(append(make([]byte, 0, 64), k1[:]...), k2[:]...)
	defer clear(ikm)
	b, err := hkdf.Key(sha256.New, ikm, hash[:], info, n)
	if err != nil { // only for n beyond 255 hashes
		panic(err)
	}
	return b
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
	b = append(b, l.Keys.Agree[:]...)
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
