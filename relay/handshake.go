package relay

import (
	"crypto/rand"
	"errors"

	"github.com/flynn/noise"

	"wanderfs/relay/wire"
)

var suite = noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256) // constant

var errHandshake = errors.New("handshake failed")

// initiate begins a Noise NK handshake with the owner of key and gives message
// 1 with payload in it.
func initiate(prologue []byte, key [32]byte, payload []byte) (*noise.HandshakeState, []byte, error) {
	hs, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: suite, Random: rand.Reader, Pattern: noise.HandshakeNK,
		Initiator: true, Prologue: prologue, PeerStatic: key[:],
	})
	if err != nil {
		return nil, nil, errHandshake
	}
	msg, _, _, err := hs.WriteMessage(nil, payload)
	if err != nil {
		return nil, nil, errHandshake
	}
	return hs, msg, nil
}

// secrets are what a finished handshake leaves.
type secrets struct{ k1, k2, hash [32]byte }

func (s *secrets) erase() { *s = secrets{} }

// finish reads message 2.
func finish(hs *noise.HandshakeState, msg []byte) (secrets, error) {
	rest, c1, c2, err := hs.ReadMessage(nil, msg)
	if err != nil || len(rest) != 0 || c1 == nil {
		return secrets{}, errHandshake
	}
	return secrets{c1.UnsafeKey(), c2.UnsafeKey(), [32]byte(hs.ChannelBinding())}, nil
}

// respond reads message 1 with the static key and gives message 2 and what
// rode in message 1.
func respond(prologue []byte, key noise.DHKey, msg []byte) (secrets, [wire.HandshakeSize]byte, []byte, error) {
	var out [wire.HandshakeSize]byte
	hs, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: suite, Random: rand.Reader, Pattern: noise.HandshakeNK,
		Prologue: prologue, StaticKeypair: key,
	})
	if err != nil {
		return secrets{}, out, nil, errHandshake
	}
	payload, _, _, err := hs.ReadMessage(nil, msg)
	if err != nil {
		return secrets{}, out, nil, errHandshake
	}
	b, c1, c2, err := hs.WriteMessage(nil, nil)
	if err != nil || c1 == nil || len(b) != len(out) {
		return secrets{}, out, nil, errHandshake
	}
	copy(out[:], b)
	return secrets{c1.UnsafeKey(), c2.UnsafeKey(), [32]byte(hs.ChannelBinding())}, out, payload, nil
}
