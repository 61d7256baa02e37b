package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
)

const walkTimeout = 15 * time.Second // ours

// newDHT makes kad-dht a pure routing table: it finds peers near a key and
// stores nothing. Reachable nodes serve it, others only ask.
func newDHT(t *transport, v *view) (*dht.IpfsDHT, error) {
	mode := dht.ModeAuto
	switch t.reach.mode {
	case Public:
		mode = dht.ModeServer
	case Private:
		mode = dht.ModeClient
	}
	opts := []dht.Option{
		dht.ProtocolPrefix(t.protocols.dht),
		dht.Mode(mode),
		dht.DisableValues(),
		dht.DisableProviders(),
		dht.AddressFilter(t.policy.told),
	}
	if !t.policy.lab { // a laboratory's nodes all live in few prefixes
		opts = append(opts, dht.RoutingTablePeerDiversityFilter(dht.NewRTPeerDiversityFilter(t.Host, 2, 3)))
	}
	d, err := dht.New(dhtHost{t.Host, t, v}, opts...)
	if err != nil {
		return nil, fmt.Errorf("start routing: %w", err)
	}
	return d, nil
}

// walk looks up a random key and returns the peers that the walk ended at.
func walk(ctx context.Context, d *dht.IpfsDHT) []peer.ID {
	ctx, cancel := context.WithTimeout(ctx, walkTimeout)
	defer cancel()
	var key [32]byte
	rand.Read(key[:])
	peers, err := d.GetClosestPeers(ctx, string(key[:]))
	if err != nil {
		return nil
	}
	return peers
}
