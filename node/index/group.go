package index

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

// groupBytes is the length of a marshalled Group.
const groupBytes = 1 + 32

// Group is one group of shares: the secret from which its record's address,
// write key and sealing key follow. The group outlives sessions; each new
// session rewrites the one group record. Safe for concurrent use.
type Group struct {
	network string
	secret  [32]byte
}

// NewGroup makes a random group for one network ("" is "main").
func NewGroup(network string) (Group, error) {
	g := Group{network: network}
	rand.Read(g.secret[:]) // never fails
	return g, nil
}

// UnmarshalGroup reads what MarshalBinary wrote.
func UnmarshalGroup(network string, b []byte) (Group, error) {
	if len(b) != groupBytes || b[0] != RecordVersion {
		return Group{}, wire.ErrMalformed
	}
	return Group{network: network, secret: [32]byte(b[1:])}, nil
}

// MarshalBinary encodes the group's secret for the catalogue. The error is
// always nil.
func (g Group) MarshalBinary() ([]byte, error) {
	return append([]byte{RecordVersion}, g.secret[:]...), nil
}

func (g Group) writeKey() ed25519.PrivateKey {
	k := mac(g.secret, []byte("write"))
	return ed25519.NewKeyFromSeed(k[:])
}

func (g Group) sealKey() [32]byte { return mac(g.secret, []byte("seal")) }

// groupAddress is where the record of a write key lives. It is as random as
// the key, and shows that only the key's owner can replace the record.
func groupAddress(writeKey [32]byte) [32]byte {
	return sha256.Sum256(append([]byte(labelGroup+"\x00"), writeKey[:]...))
}

// Address returns where the group record lives.
func (g Group) Address() [32]byte {
	return groupAddress([32]byte(g.writeKey().Public().(ed25519.PublicKey)))
}

// Pointer makes the record that leads from content to this group. Each pointer
// is signed by a key of its own, so that two of them do not show that they
// belong together; made again, it replaces its predecessor.
func (g Group) Pointer(r chunk.Ref, expires time.Time) (Record, error) {
	if r.IsZero() {
		return Record{}, fmt.Errorf("make pointer: %w", wire.ErrMalformed)
	}
	mh := r.Multihash()
	k := keysOfContent(mh)
	seed := mac(g.secret, []byte("pointer"), mh)
	addr, seal := g.Address(), g.sealKey()
	plain := append(addr[:], seal[:]...)
	nonce := mac(g.secret, []byte("nonce"), mh)
	sealed := sealWith(nil, k.seal, [nonceSize]byte(nonce[:nonceSize]), plain, []byte(labelPointer))
	return newRecord(g.network, Pointer, 0, k.addr, coarse(expires), 0, [2]byte{}, nil, sealed, ed25519.NewKeyFromSeed(seed[:])), nil
}

// Seq is the number for a record that is sealed now: it grows with the clock, by
// milliseconds, from a place that only the group knows. Super nodes see it when
// it arrives. The bare time would show how much the publisher's clock is off,
// which is the same for all groups of a node and stands in its descriptor.
func (g Group) Seq(now time.Time) uint64 {
	h := mac(g.secret, []byte("seq"))
	return uint64(max(0, now.UnixMilli())) + binary.BigEndian.Uint64(h[:])>>24
}

// Seal makes the group record that holds one wire.Source in its
// wire.SourceSize bytes. Stores keep the record with the highest seq.
func (g Group) Seal(source []byte, seq uint64, expires time.Time) (Record, error) {
	if len(source) != wire.SourceSize {
		return Record{}, fmt.Errorf("seal source: %w", wire.ErrMalformed)
	}
	sealed := sealWith(nil, g.sealKey(), randomNonce(), source, []byte(labelGroup))
	return newRecord(g.network, GroupInfo, 0, g.Address(), expires, seq, [2]byte{}, nil, sealed, g.writeKey()), nil
}

// groupRef is what a pointer says: which group record, and its key.
type groupRef struct{ addr, seal [32]byte }

func openPointer(k contentKeys, r Record) (groupRef, error) {
	if r.Kind() != Pointer || r.Address() != k.addr {
		return groupRef{}, wire.ErrMalformed
	}
	p, err := openWith(k.seal, r.sealed(), []byte(labelPointer))
	if err != nil {
		return groupRef{}, err
	}
	return groupRef{addr: [32]byte(p[:32]), seal: [32]byte(p[32:])}, nil
}

func (g groupRef) open(r Record) ([]byte, error) {
	if r.Kind() != GroupInfo || r.Address() != g.addr {
		return nil, wire.ErrMalformed
	}
	return openWith(g.seal, r.sealed(), []byte(labelGroup))
}

// String hides the group.
func (Group) String() string { return "[group]" }

// GoString hides the group.
func (Group) GoString() string { return "[group]" }

// Format hides the group under every verb.
func (Group) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("[group]")) }

// LogValue hides the group.
func (Group) LogValue() slog.Value { return slog.StringValue("[group]") }
