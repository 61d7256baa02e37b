package wire

import (
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

const (
	// MaxAddrs is how many addresses a descriptor holds. SPEC.md §4
	MaxAddrs = 4
	// DescriptorSize is the length of every descriptor in bytes. SPEC.md §4
	DescriptorSize = 1 + 1 + 32 + 32 + 8 + 8 + 1 + MaxAddrs*18 + 64
	// MaxDescriptorLife bounds Expires-Issued. SPEC.md §4
	MaxDescriptorLife = 24 * time.Hour
	// clockSkew is how far in the future a record may have been issued.
	clockSkew = 15 * time.Minute // ours; any value works
)

// Flags of a descriptor.
const (
	FlagSuper = 1 << 0 // stores records and ends standing paths
)

// Descriptor tells how to reach a relay and how to talk to it. It is signed
// by the node itself; fields are only as true as the node is.
type Descriptor struct {
	Node    NodeID
	Onion   [32]byte // X25519 public key for circuit handshakes
	Flags   byte
	Issued  time.Time // to the second
	Expires time.Time // to the second
	Addrs   []netip.AddrPort
	Sig     [64]byte
}

func descriptorLabel(network string) string {
	return "wanderfs/" + network + "/descriptor/1\x00"
}

// Super reports whether the node says that it is a super node.
func (d Descriptor) Super() bool { return d.Flags&FlagSuper != 0 }

// Sign sets Node from key and signs d for one network.
func (d *Descriptor) Sign(key ed25519.PrivateKey, network string) error {
	if len(d.Addrs) > MaxAddrs {
		return fmt.Errorf("sign descriptor: more than %d addresses", MaxAddrs)
	}
	copy(d.Node[:], key.Public().(ed25519.PublicKey))
	b := d.body()
	copy(d.Sig[:], ed25519.Sign(key, append([]byte(descriptorLabel(network)), b...)))
	return nil
}

// Verify checks the signature for one network and the times against now.
func (d Descriptor) Verify(network string, now time.Time) error {
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
	b := make([]byte, 0, DescriptorSize)
	b = append(b, Version, d.Flags)
	b = append(b, d.Node[:]...)
	b = append(b, d.Onion[:]...)
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

// AppendBinary appends the DescriptorSize bytes of d.
func (d Descriptor) AppendBinary(b []byte) ([]byte, error) {
	if len(d.Addrs) > MaxAddrs {
		return b, fmt.Errorf("encode descriptor: more than %d addresses", MaxAddrs)
	}
	b = append(b, d.body()...)
	return append(b, d.Sig[:]...), nil
}

// ParseDescriptor reads exactly DescriptorSize bytes. It does not verify the
// signature.
func ParseDescriptor(b []byte) (Descriptor, error) {
	var d Descriptor
	if len(b) != DescriptorSize || b[0] != Version {
		return d, ErrMalformed
	}
	d.Flags = b[1]
	copy(d.Node[:], b[2:34])
	copy(d.Onion[:], b[34:66])
	issued, expires := binary.BigEndian.Uint64(b[66:74]), binary.BigEndian.Uint64(b[74:82])
	if issued > 1<<40 || expires > 1<<40 {
		return Descriptor{}, ErrMalformed
	}
	d.Issued, d.Expires = time.Unix(int64(issued), 0), time.Unix(int64(expires), 0)
	n := int(b[82])
	if n > MaxAddrs {
		return Descriptor{}, ErrMalformed
	}
	for i := range MaxAddrs {
		slot := b[83+18*i : 83+18*(i+1)]
		if i >= n {
			if [18]byte(slot) != [18]byte{} {
				return Descriptor{}, ErrMalformed
			}
			continue
		}
		ip := netip.AddrFrom16([16]byte(slot[:16])).Unmap()
		d.Addrs = append(d.Addrs, netip.AddrPortFrom(ip, binary.BigEndian.Uint16(slot[16:])))
	}
	copy(d.Sig[:], b[DescriptorSize-64:])
	return d, nil
}

// String hides the relay.
func (Descriptor) String() string { return "[relay]" }

// GoString hides the relay.
func (Descriptor) GoString() string { return "[relay]" }

// LogValue hides the relay.
func (Descriptor) LogValue() slog.Value { return slog.StringValue("[relay]") }
