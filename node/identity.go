package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"wanderfs/relay/wire"
)

const keyFile = "node.key" // 32 bytes, an Ed25519 seed

// errBadPeer says that a peer's identity is no Ed25519 key.
var errBadPeer = errors.New("peer without an Ed25519 identity")

// loadIdentity reads the node's key from dir or makes one. With fresh set, and
// when dir is empty, the key is new and lives in memory only.
func loadIdentity(dir string, fresh bool) (ed25519.PrivateKey, error) {
	if fresh || dir == "" {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	name := filepath.Join(dir, keyFile)
	seed, err := os.ReadFile(name)
	switch {
	case err == nil && len(seed) == ed25519.SeedSize:
		return ed25519.NewKeyFromSeed(seed), nil
	case err == nil:
		return nil, fmt.Errorf("read node key: %d bytes instead of %d", len(seed), ed25519.SeedSize)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read node key: %w", err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := writeFile(name, key.Seed()); err != nil {
		return nil, fmt.Errorf("keep node key: %w", err)
	}
	return key, nil
}

// writeFile replaces name by data at once: a reader sees the old bytes or the
// new ones, also after a crash.
func writeFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// peerOf returns the libp2p name of a node.
func peerOf(id wire.NodeID) (peer.ID, error) {
	pub, err := crypto.UnmarshalEd25519PublicKey(id[:])
	if err != nil {
		return "", errBadPeer
	}
	return peer.IDFromPublicKey(pub)
}

// nodeOf returns the node behind a libp2p name.
func nodeOf(p peer.ID) (wire.NodeID, error) {
	pub, err := p.ExtractPublicKey()
	if err != nil || pub.Type() != crypto.Ed25519 {
		return wire.NodeID{}, errBadPeer
	}
	raw, err := pub.Raw()
	if err != nil || len(raw) != len(wire.NodeID{}) {
		return wire.NodeID{}, errBadPeer
	}
	return wire.NodeID(raw), nil
}
