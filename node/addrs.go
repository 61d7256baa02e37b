package node

import (
	"net/netip"
	"strconv"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"wanderfs/node/view"
	"wanderfs/relay/wire"
)

// told returns those of addrs that others need for dialling this node, at most
// wire.MaxAddrs. A loopback address is told only when there is no other.
func told(p view.Policy, addrs []ma.Multiaddr) []ma.Multiaddr {
	var out, loop []ma.Multiaddr
	for _, m := range addrs {
		a, ok := addrPortOf(m)
		switch {
		case !ok || !p.Allows(a.Addr()):
		case a.Addr().IsLoopback():
			loop = append(loop, m)
		default:
			out = append(out, m)
		}
	}
	if len(out) == 0 {
		out = loop
	}
	return out[:min(len(out), wire.MaxAddrs)]
}

// addrPortOf reads a multiaddr of the one form in use, /ip{4,6}/…/tcp/….
func addrPortOf(m ma.Multiaddr) (netip.AddrPort, bool) {
	if len(m) != 2 || m[1].Protocol().Code != ma.P_TCP {
		return netip.AddrPort{}, false
	}
	if c := m[0].Protocol().Code; c != ma.P_IP4 && c != ma.P_IP6 { // no names: they would be resolved here
		return netip.AddrPort{}, false
	}
	na, err := manet.ToNetAddr(m)
	if err != nil {
		return netip.AddrPort{}, false
	}
	a, err := netip.ParseAddrPort(na.String())
	if err != nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), true
}

// multiaddrOf is the reverse of addrPortOf.
func multiaddrOf(a netip.AddrPort) ma.Multiaddr {
	kind := "/ip4/"
	if a.Addr().Is6() {
		kind = "/ip6/"
	}
	m, err := ma.NewMultiaddr(kind + a.Addr().String() + "/tcp/" + strconv.Itoa(int(a.Port())))
	if err != nil {
		return nil // not for a valid AddrPort without a zone
	}
	return m
}
