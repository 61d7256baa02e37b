// Package viewtest makes descriptors of relays that do not exist, for tests.
package viewtest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	"wanderfs/relay/wire"
)

// Network is the name that the descriptors are signed for.
const Network = "test-lab"

// Key returns a key that depends on n only.
func Key(n int) ed25519.PrivateKey {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	sum := sha256.Sum256(seed[:])
	return ed25519.NewKeyFromSeed(sum[:])
}

// Relay returns a signed descriptor that depends on its arguments only.
func Relay(n int, addr string, flags byte, issued time.Time) wire.Descriptor {
	d := wire.Descriptor{
		Onion: &wire.PublicKey{byte(n)}, Flags: flags, Issued: issued, Expires: issued.Add(wire.OnionLife),
		Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)},
	}
	if err := d.Sign(Key(n), Network); err != nil {
		panic(err)
	}
	return d
}

// Again returns a further descriptor of relay n, signed seconds later.
func Again(n int, addr string, issued time.Time, onion byte) wire.Descriptor {
	d := Relay(n, addr, wire.FlagSuper, issued)
	d.Onion = &wire.PublicKey{byte(n), onion}
	if err := d.Sign(Key(n), Network); err != nil {
		panic(err)
	}
	return d
}
