package node

import (
	"github.com/libp2p/go-libp2p/core/network"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	ma "github.com/multiformats/go-multiaddr"

	"wanderfs/node/portmap"
	"wanderfs/node/view"
)

// nat lets libp2p know what a router forwards. It implements
// basichost.NATManager.
type nat struct{ *portmap.Mapper }

func newNAT(n network.Network) basichost.NATManager {
	return nat{portmap.New(func() (ports []uint16) {
		for _, l := range n.ListenAddresses() {
			if a, ok := addrPortOf(l); ok && a.Addr().Is4() && !a.Addr().IsLoopback() {
				ports = append(ports, a.Port())
			}
		}
		return ports
	}, view.Policy{}.Allows)}
}

// HasDiscoveredNAT reports whether a router forwards a port.
func (n nat) HasDiscoveredNAT() bool { return n.Found() }

// GetMapping returns the router's address for one of the node's, or nil.
func (n nat) GetMapping(own ma.Multiaddr) ma.Multiaddr {
	a, ok := addrPortOf(own)
	if !ok || !a.Addr().Is4() {
		return nil
	}
	if at, mapped := n.Outside(a.Port()); mapped {
		return multiaddrOf(at)
	}
	return nil
}
