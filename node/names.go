package node

import (
	"context"
	"net"
	"net/netip"
	"strconv"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// noNames is libp2p's resolver and resolves nothing. A peer could tell in
// identify that it lives at a name; dialling it, libp2p would look the name up
// before the gater sees an address, and whoever serves the name, and everybody
// on the way, would learn who asks. It implements network.MultiaddrDNSResolver.
type noNames struct{}

// ResolveDNSAddr returns nothing.
func (noNames) ResolveDNSAddr(context.Context, peer.ID, ma.Multiaddr, int, int) ([]ma.Multiaddr, error) {
	return nil, nil
}

// ResolveDNSComponent returns nothing.
func (noNames) ResolveDNSComponent(context.Context, ma.Multiaddr, int) ([]ma.Multiaddr, error) {
	return nil, nil
}

const maxResolved = 4 // addresses of one name; ours

// resolved replaces names by their addresses. Only what the user himself gave
// may hold names.
func resolved(ctx context.Context, addrs []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, m := range addrs {
		name, kind, port := nameOf(m)
		if name == "" {
			out = append(out, m)
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, kind, name)
		if err != nil {
			continue // its text holds the name
		}
		for _, ip := range ips[:min(len(ips), maxResolved)] {
			out = append(out, multiaddrOf(netip.AddrPortFrom(ip.Unmap(), port)))
		}
	}
	return out
}

// nameOf reads /dns{,4,6}/…/tcp/…; name is "" for anything else.
func nameOf(m ma.Multiaddr) (name, kind string, port uint16) {
	if len(m) != 2 || m[1].Protocol().Code != ma.P_TCP {
		return "", "", 0
	}
	switch m[0].Protocol().Code {
	case ma.P_DNS:
		kind = "ip"
	case ma.P_DNS4:
		kind = "ip4"
	case ma.P_DNS6:
		kind = "ip6"
	default:
		return "", "", 0
	}
	n, err := strconv.ParseUint(m[1].Value(), 10, 16)
	if err != nil {
		return "", "", 0
	}
	return m[0].Value(), kind, uint16(n)
}
