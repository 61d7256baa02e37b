package relay

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"

	"github.com/flynn/noise"

	"wanderfs/relay/wire"
)

// Session is a pseudonym under which one publishes or reads for a while. Its
// keys are never on disk.
type Session struct {
	sign   ed25519.PrivateKey
	agree  noise.DHKey
	keys   wire.SessionKeys
	effort byte
}

// NewSession makes a session with new keys.
func NewSession() (*Session, error) {
	_, sign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make session: %w", err)
	}
	agree, err := newAgreeKey()
	if err != nil {
		return nil, fmt.Errorf("make session: %w", err)
	}
	s := &Session{sign: sign, agree: agree, effort: DefaultEffort}
	copy(s.keys.Sign[:], sign.Public().(ed25519.PublicKey))
	copy(s.keys.Agree[:], agree.Public)
	return s, nil
}

// Number names the session.
func (s *Session) Number() wire.SessionNumber { return s.keys.Number() }

// Keys gives the public keys.
func (s *Session) Keys() wire.SessionKeys { return s.keys }

// SignKey gives the private key that signs the session's wire.Source. The
// caller must not keep it longer than the session.
func (s *Session) SignKey() ed25519.PrivateKey { return s.sign }

// SetEffort says how many bits of work gateways ask of readers while many of
// them join: 0, for none, to wire.MaxListenEffort. It is called before Listen.
func (s *Session) SetEffort(bits int) error {
	if bits < 0 || bits > wire.MaxListenEffort {
		return fmt.Errorf("effort: not between 0 and %d", wire.MaxListenEffort)
	}
	s.effort = byte(bits)
	return nil
}

// Erase overwrites the private keys. Listeners of the session must be closed
// before.
func (s *Session) Erase() {
	clear(s.sign)
	clear(s.agree.Private)
}

// String hides the session.
func (*Session) String() string { return "[session]" }
