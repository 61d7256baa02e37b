package node

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"wanderfs/node/view"
)

// gater refuses connections that the address policy does not allow, and while
// a descriptor is dialled all addresses that it does not sign. It implements
// connmgr.ConnectionGater.
type gater struct {
	policy view.Policy

	mu   sync.Mutex
	only map[peer.ID]*dialling // guarded by mu
}

type dialling struct {
	addrs []netip.AddrPort
	users int
}

func newGater(p view.Policy) *gater { return &gater{policy: p, only: make(map[peer.ID]*dialling)} }

// restrict lets p be dialled at addrs only until release is called. Where two
// restrictions overlap in time, their addresses add up.
func (g *gater) restrict(p peer.ID, addrs []netip.AddrPort) (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.only[p]
	if d == nil {
		d = new(dialling)
		g.only[p] = d
	}
	d.users++
	d.addrs = append(d.addrs, addrs...)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if d.users--; d.users == 0 {
			delete(g.only, p)
		}
	}
}

func (g *gater) allows(m ma.Multiaddr) (netip.AddrPort, bool) {
	a, ok := addrPortOf(m)
	return a, ok && g.policy.Allows(a.Addr())
}

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g *gater) InterceptPeerDial(peer.ID) bool { return true }

// InterceptAddrDial implements connmgr.ConnectionGater.
func (g *gater) InterceptAddrDial(p peer.ID, m ma.Multiaddr) bool {
	m, _ = peer.SplitAddr(m)
	a, ok := g.allows(m)
	if !ok {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.only[p]
	return d == nil || slices.Contains(d.addrs, a)
}

// InterceptAccept implements connmgr.ConnectionGater.
func (g *gater) InterceptAccept(c network.ConnMultiaddrs) bool {
	_, ok := g.allows(c.RemoteMultiaddr())
	return ok
}

// InterceptSecured implements connmgr.ConnectionGater: only Ed25519 peers.
func (g *gater) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	_, err := nodeOf(p)
	return err == nil
}

// InterceptUpgraded implements connmgr.ConnectionGater.
func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
