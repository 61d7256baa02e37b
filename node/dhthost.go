package node

import (
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"wanderfs/node/view"
)

// dhtHost is the host as kad-dht sees it. As it is, kad-dht answers FIND_NODE
// with the address that a connection comes from, also for a peer that cannot
// be dialled and told nobody an address; it marks in the answer whom this node
// is connected to; and it adds and removes its handler, which identify tells
// everybody, as the node finds out whether it can be dialled. Behind a dhtHost
// it knows addresses from relays' own descriptors alone and no connections, and
// its handler stays registered: a node that does not serve resets the stream.
type dhtHost struct {
	host.Host
	t    *transport
	view *view.View
}

// Peerstore implements host.Host.
func (h dhtHost) Peerstore() peerstore.Peerstore { return dhtPeers{h.Host.Peerstore(), h} }

// Network implements host.Host.
func (h dhtHost) Network() network.Network { return dhtNetwork{h.Host.Network()} }

// SetStreamHandler implements host.Host.
func (h dhtHost) SetStreamHandler(p protocol.ID, f network.StreamHandler) { h.t.intake.set(p, f) }

// RemoveStreamHandler implements host.Host.
func (h dhtHost) RemoveStreamHandler(p protocol.ID) { h.t.intake.set(p, nil) }

// dhtPeers hides all addresses but those that relays sign.
type dhtPeers struct {
	peerstore.Peerstore
	h dhtHost
}

// Addrs implements peerstore.AddrBook.
func (s dhtPeers) Addrs(p peer.ID) []ma.Multiaddr {
	if p == s.h.ID() {
		return s.h.Addrs()
	}
	id, err := nodeOf(p)
	if err != nil {
		return nil
	}
	d, ok := s.h.view.Vouched(id)
	if !ok {
		return nil
	}
	var out []ma.Multiaddr
	for _, a := range s.h.t.policy.Dialable(d) {
		out = append(out, multiaddrOf(a))
	}
	return out
}

// PeerInfo implements peerstore.Peerstore.
func (s dhtPeers) PeerInfo(p peer.ID) peer.AddrInfo { return peer.AddrInfo{ID: p, Addrs: s.Addrs(p)} }

// dhtNetwork says of nobody that he is connected. kad-dht then asks the host
// to connect, which does nothing where there is a connection.
type dhtNetwork struct{ network.Network }

// Connectedness implements network.Network.
func (dhtNetwork) Connectedness(peer.ID) network.Connectedness { return network.NotConnected }
