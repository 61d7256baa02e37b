package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// ErrMalformed says that bytes from elsewhere do not follow SPEC.md.
var ErrMalformed = errors.New("malformed message")

// ErrBadSignature says that a signature does not fit. What it signed must be
// dropped.
var ErrBadSignature = errors.New("bad signature")

// ErrExpired says that a signed record's time has passed, or has not come.
var ErrExpired = errors.New("record expired")

var (
	errNoOnion = errors.New("descriptor without an onion key")
	errFlags   = errors.New("descriptor with an unknown flag")
)

const (
	// MaxAddrs is how many addresses a descriptor holds. SPEC.md §4
	MaxAddrs = 4
	// DialSize is the length of a descriptor's short form in bytes: all but the
	// onion key, of which it has the hash. SPEC.md §4
	DialSize = 1 + 1 + 1 + 32 + 32 + 8 + 8 + 1 + MaxAddrs*18 + 64
	// DescriptorSize is the length of a descriptor in bytes. SPEC.md §4
	DescriptorSize = DialSize + PublicKeySize
	// OnionTurn is how often a relay makes a new onion key. SPEC.md §4
	OnionTurn = time.Hour
	// OnionLife is how long an onion key is of use, and kept. SPEC.md §4
	OnionLife = 2 * OnionTurn
	// MaxDescriptorLife bounds Expires-Issued. SPEC.md §4
	MaxDescriptorLife = OnionLife
	// clockSkew is how far in the future a record may have been issued.
	clockSkew = 15 * time.Minute // ours; any value works
)

// Flags of a descriptor.
const (
	FlagSuper = 1 << 0 // stores records and ends standing paths

	knownFlags = FlagSuper
)

// speaks is what a descriptor says of wire versions: bit v-1 is set if the
// node speaks version v.
const speaks = 1 << (Version - 1)

// Descriptor tells how to reach a relay and how to talk to it. It is signed
// by the node itself; fields are only as true as the node is.
//
//	0         1       2          3      35           67       75        83      84     156   220
//	| version | flags | versions | node | onion hash | issued | expires | count | 4 x 18 | sig | onion key (1216)
//	|<---------------- short form: what dialling needs, and all that is signed --------->|
type Descriptor struct {
	Node      NodeID
	Onion     *PublicKey // for set-up packets; nil in the short form; never changed
	OnionHash [32]byte   // of it
	Flags     byte
	Versions  byte      // wire versions that the node speaks, bit v-1 for v
	Issued    time.Time // to the second
	Expires   time.Time // to the second; not later than the onion key's end
	Addrs     []netip.AddrPort
	Sig       [64]byte
}

func descriptorLabel(network string) string {
	return "wanderfs/" + network + "/descriptor/1\x00"
}

// Super reports whether the node says that it is a super node.
func (d Descriptor) Super() bool { return d.Flags&FlagSuper != 0 }

// Sign sets Node from key, OnionHash and Versions, and signs d for one network.
// It needs the onion key.
func (d *Descriptor) Sign(key ed25519.PrivateKey, network string) error {
	if len(d.Addrs) > MaxAddrs {
		return fmt.Errorf("sign descriptor: more than %d addresses", MaxAddrs)
	}
	if d.Flags&^knownFlags != 0 {
		return errFlags
	}
	if d.Onion == nil {
		return errNoOnion
	}
	d.OnionHash, d.Versions = d.Onion.OnionHash(), speaks
	copy(d.Node[:], key.Public().(ed25519.PublicKey))
	b := d.body()
	copy(d.Sig[:], ed25519.Sign(key, append([]byte(descriptorLabel(network)), b...)))
	return nil
}

// Verify checks the signature for one network, the onion key if d has it, and
// the times against now.
func (d Descriptor) Verify(network string, now time.Time) error {
	if d.Onion != nil && d.Onion.OnionHash() != d.OnionHash {
		return ErrBadSignature
	}
	msg := append([]byte(descriptorLabel(network)), d.body()...)
	if !ed25519.Verify(d.Node[:], msg, d.Sig[:]) {
		return ErrBadSignature
	}
	if d.Expires.Sub(d.Issued) > MaxDescriptorLife || !now.Before(d.Expires) || d.Issued.After(now.Add(clockSkew)) {
		return ErrExpired
	}
	return nil
}

func (d Descriptor) body() []byte {
	b := make([]byte, 0, DialSize)
	b = append(b, Version, d.Flags, d.Versions)
	b = append(b, d.Node[:]...)
	b = append(b, d.OnionHash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(d.Issued.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(d.Expires.Unix()))
	b = append(b, byte(len(d.Addrs)))
	for i := range MaxAddrs {
		var slot [18]byte
		if i < len(d.Addrs) {
			ip := d.Addrs[i].Addr().As16()
			copy(slot[:], ip[:])
			binary.BigEndian.PutUint16(slot[16:], d.Addrs[i].Port())
		}
		b = append(b, slot[:]...)
	}
	return b
}

// AppendDial appends the DialSize bytes of d's short form.
func (d Descriptor) AppendDial(b []byte) ([]byte, error) {
	if len(d.Addrs) > MaxAddrs {
		return b, fmt.Errorf("encode descriptor: more than %d addresses", MaxAddrs)
	}
	b = append(b, d.body()...)
	return append(b, d.Sig[:]...), nil
}

// AppendBinary appends the DescriptorSize bytes of d, which must have its
// onion key.
func (d Descriptor) AppendBinary(b []byte) ([]byte, error) {
	if d.Onion == nil {
		return b, errNoOnion
	}
	b, err := d.AppendDial(b)
	if err != nil {
		return b, err
	}
	return append(b, d.Onion[:]...), nil
}

// ParseDescriptor reads exactly DescriptorSize bytes, and checks that the
// onion key is the one whose hash is signed. It does not verify the signature.
func ParseDescriptor(b []byte) (Descriptor, error) {
	if len(b) != DescriptorSize {
		return Descriptor{}, ErrMalformed
	}
	d, err := ParseDial(b[:DialSize])
	if err != nil {
		return Descriptor{}, err
	}
	k := PublicKey(b[DialSize:])
	if k.OnionHash() != d.OnionHash {
		return Descriptor{}, ErrMalformed
	}
	d.Onion = &k
	return d, nil
}

// ParseDial reads exactly DialSize bytes, a descriptor's short form. It does
// not verify the signature.
func ParseDial(b []byte) (Descriptor, error) {
	var d Descriptor
	if len(b) != DialSize || b[0] != Version {
		return d, ErrMalformed
	}
	d.Flags, d.Versions = b[1], b[2]
	copy(d.Node[:], b[3:35])
	copy(d.OnionHash[:], b[35:67])
	issued, expires := binary.BigEndian.Uint64(b[67:75]), binary.BigEndian.Uint64(b[75:83])
	if issued > 1<<40 || expires > 1<<40 || d.Versions&speaks == 0 || d.Flags&^knownFlags != 0 {
		return Descriptor{}, ErrMalformed
	}
	d.Issued, d.Expires = time.Unix(int64(issued), 0), time.Unix(int64(expires), 0)
	n := int(b[83])
	if n > MaxAddrs {
		return Descriptor{}, ErrMalformed
	}
	for i := range MaxAddrs {
		slot := b[84+18*i : 84+18*(i+1)]
		if i >= n {
			if [18]byte(slot) != [18]byte{} {
				return Descriptor{}, ErrMalformed
			}
			continue
		}
		ip := netip.AddrFrom16([16]byte(slot[:16])).Unmap()
		d.Addrs = append(d.Addrs, netip.AddrPortFrom(ip, binary.BigEndian.Uint16(slot[16:])))
	}
	copy(d.Sig[:], b[DialSize-64:])
	return d, nil
}

// String hides the relay.
func (Descriptor) String() string { return "[relay]" }

// GoString hides the relay.
func (Descriptor) GoString() string { return "[relay]" }

// LogValue hides the relay.
func (Descriptor) LogValue() slog.Value { return slog.StringValue("[relay]") }

// Same reports whether two signed records are the same in every bit, so
// that what holds for the signature of the one holds for the other.
func Same(a, b interface {
	AppendBinary([]byte) ([]byte, error)
}) bool {
	x, errX := a.AppendBinary(nil)
	y, errY := b.AppendBinary(nil)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
