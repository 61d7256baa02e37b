package relay

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"sync"

	"wanderfs/relay/wire"
)

// maxGreetings is how many readers' first messages a session takes in its life.
const maxGreetings = 1 << 20 // ours; more than three gateways let through in the longest life

// Session is a pseudonym under which one publishes or reads for a while. Its
// keys are never on disk.
type Session struct {
	sign   ed25519.PrivateKey
	keys   wire.SessionKeys
	effort byte
	seen   *replays // readers' first messages; each is answered once

	mu  sync.Mutex
	key *wire.PrivateKey // nil once erased; guarded by mu
}

// NewSession makes a session with new keys.
func NewSession() (*Session, error) {
	_, sign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make session: %w", err)
	}
	key, err := wire.NewPrivateKey()
	if err != nil {
		return nil, fmt.Errorf("make session: %w", err)
	}
	s := &Session{sign: sign, key: key, effort: DefaultEffort, seen: newReplays(maxGreetings)}
	copy(s.keys.Sign[:], sign.Public().(ed25519.PublicKey))
	s.keys.Key = *key.Public()
	return s, nil
}

// greet answers a reader's first message, once.
func (s *Session) greet(network string, msg []byte) (out [wire.WelcomeSize]byte, first []byte, k wire.StreamKeys, err error) {
	id, err := wire.GreetingID(msg)
	if err != nil {
		return out, nil, k, err
	}
	if s.seen.has(id) {
		return out, nil, k, errReplay
	}
	s.mu.Lock()
	key := s.key
	s.mu.Unlock()
	if key == nil {
		return out, nil, k, ErrClosed
	}
	if out, first, k, err = wire.OpenGreeting(network, s.Number(), key, msg); err != nil {
		return out, nil, k, err
	}
	return out, first, k, s.seen.add(id)
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

// Erase overwrites the signing key and drops the other. Listeners of the
// session must be closed before.
func (s *Session) Erase() {
	clear(s.sign)
	s.mu.Lock()
	s.key = nil
	s.mu.Unlock()
}

// String hides the session.
func (*Session) String() string { return "[session]" }
