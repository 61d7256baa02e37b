package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"wanderfs/node/view"
)

const walkTimeout = 15 * time.Second // ours

// newDHT makes kad-dht a pure routing table: it finds peers near a key and
// stores nothing. Reachable nodes serve it, others only ask.
func newDHT(t *transport, v *view.View) (*dht.IpfsDHT, error) {
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
		dht.AddressFilter(func(a []ma.Multiaddr) []ma.Multiaddr { return told(t.policy, a) }),
	}
	if !t.policy.Lab { // a laboratory's nodes all live in few prefixes
		opts = append(opts, dht.RoutingTablePeerDiversityFilter(dht.NewRTPeerDiversityFilter(t.Host, 2, 3)))
	}
	d, err := dht.New(dhtHost{t.Host, t, v}, opts...)
	if err != nil {
		return nil, fmt.Errorf("start routing: %w", err)
	}
	return d, nil
}

// walks looks up two random keys in different halves of the ring and returns
// the peers that the walks ended at. kad-dht begins each at the peers that it
// knows nearest to the key, up to twenty: where many are known the two begin at
// different ones, and nowhere at a single one, which would decide all that this
// node gets to see. Whoever knows one peer only asks that, and waits.
func walks(ctx context.Context, d *dht.IpfsDHT) []peer.ID {
	if d.RoutingTable().Size() < 2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, walkTimeout)
	defer cancel()
	var mu sync.Mutex
	var found []peer.ID
	var wg sync.WaitGroup
	for half := range byte(2) {
		wg.Go(func() {
			peers, err := d.GetClosestPeers(ctx, string(keyIn(half)))
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, p := range peers {
				if !slices.Contains(found, p) {
					found = append(found, p)
				}
			}
		})
	}
	wg.Wait()
	return found
}

// keyIn returns a random key whose place on the ring lies in one half.
func keyIn(half byte) []byte {
	key := make([]byte, 32)
	for {
		rand.Read(key)
		if sum := sha256.Sum256(key); sum[0]>>7 == half {
			return key
		}
	}
}
