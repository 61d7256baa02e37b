package wire

import (
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"time"
)

// HeldThrough is how many neighbours a relay that nobody can dial names.
// SPEC.md §4.1
const HeldThrough = 2

// HeldSize is the length of every Held in bytes. SPEC.md §4.1
const HeldSize = DescriptorSize + HeldThrough*32 + 64

// Held tells of a relay that nobody can dial: it keeps connections to two
// others, and circuits reach it from these alone. It is signed by the relay
// itself. That a connection is there is known when both say so.
type Held struct {
	Desc    Descriptor          // without addresses
	Through [HeldThrough]NodeID // in ascending order
	Sig     [64]byte
}

func heldLabel(network string) string { return "wanderfs/" + network + "/held/1\x00" }

// signed is what Sig is over. It holds the descriptor's signature and with it
// all of the descriptor.
func (h Held) signed(network string) []byte {
	b := append([]byte(heldLabel(network)), h.Desc.Node[:]...)
	b = append(b, h.Desc.Sig[:]...)
	for _, n := range h.Through {
		b = append(b, n[:]...)
	}
	return b
}

// check holds what is known without keys.
func (h Held) check() error {
	a, b := h.Through[0], h.Through[1]
	if len(h.Desc.Addrs) != 0 || h.Desc.Super() || a.IsZero() || a == h.Desc.Node || b == h.Desc.Node || string(a[:]) >= string(b[:]) {
		return ErrMalformed
	}
	return nil
}

// Sign signs h for one network. Its descriptor must be signed already.
func (h *Held) Sign(key ed25519.PrivateKey, network string) error {
	if err := h.check(); err != nil {
		return fmt.Errorf("sign held relay: %w", err)
	}
	copy(h.Sig[:], ed25519.Sign(key, h.signed(network)))
	return nil
}

// Verify checks both signatures for one network and the times against now.
func (h Held) Verify(network string, now time.Time) error {
	if !ed25519.Verify(h.Desc.Node[:], h.signed(network), h.Sig[:]) {
		return ErrBadSignature
	}
	return h.Desc.Verify(network, now)
}

// AppendBinary appends the HeldSize bytes of h.
func (h Held) AppendBinary(b []byte) ([]byte, error) {
	if err := h.check(); err != nil {
		return b, fmt.Errorf("encode held relay: %w", err)
	}
	out, err := h.Desc.AppendBinary(b)
	if err != nil {
		return b, err
	}
	for _, n := range h.Through {
		out = append(out, n[:]...)
	}
	return append(out, h.Sig[:]...), nil
}

// ParseHeld reads exactly HeldSize bytes. It verifies no signature.
func ParseHeld(b []byte) (Held, error) {
	var h Held
	if len(b) != HeldSize {
		return h, ErrMalformed
	}
	var err error
	if h.Desc, err = ParseDescriptor(b[:DescriptorSize]); err != nil {
		return Held{}, err
	}
	rest := b[DescriptorSize:]
	for i := range h.Through {
		h.Through[i] = NodeID(rest[32*i:])
	}
	copy(h.Sig[:], rest[HeldThrough*32:])
	if err := h.check(); err != nil {
		return Held{}, err
	}
	return h, nil
}

// String hides the relay.
func (Held) String() string { return "[relay]" }

// GoString hides the relay.
func (Held) GoString() string { return "[relay]" }

// LogValue hides the relay.
func (Held) LogValue() slog.Value { return slog.StringValue("[relay]") }
