package node

import (
	"net/netip"
	"slices"
	"strconv"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// addrPolicy says which addresses exist for a node: in a laboratory network
// private and loopback ones, elsewhere public ones. The other kind is neither
// dialled, nor accepted, nor told.
type addrPolicy struct{ lab bool }

var (
	cgnat      = netip.MustParsePrefix("100.64.0.0/10")
	bench      = netip.MustParsePrefix("198.18.0.0/15")
	docs1      = netip.MustParsePrefix("192.0.2.0/24")
	docs2      = netip.MustParsePrefix("198.51.100.0/24")
	docs3      = netip.MustParsePrefix("203.0.113.0/24")
	reserved4  = netip.MustParsePrefix("240.0.0.0/4")
	thisNet    = netip.MustParsePrefix("0.0.0.0/8")
	ietf       = netip.MustParsePrefix("192.0.0.0/24")
	global6    = netip.MustParsePrefix("2000::/3")
	docs6      = netip.MustParsePrefix("2001:db8::/32")
	teredo     = netip.MustParsePrefix("2001::/32")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	notPublic4 = []netip.Prefix{cgnat, bench, docs1, docs2, docs3, reserved4, thisNet, ietf}
	notPublic6 = []netip.Prefix{docs6, teredo, sixToFour}
)

// allows reports whether ip is one that this node deals with.
func (p addrPolicy) allows(ip netip.Addr) bool {
	ip = ip.Unmap()
	if !ip.IsValid() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() {
		return false
	}
	if p.lab {
		return ip.IsLoopback() || ip.IsPrivate()
	}
	if ip.IsLoopback() || ip.IsPrivate() {
		return false
	}
	in := func(n netip.Prefix) bool { return n.Contains(ip) }
	if ip.Is4() {
		return !slices.ContainsFunc(notPublic4, in)
	}
	return global6.Contains(ip) && !slices.ContainsFunc(notPublic6, in)
}

// dialable returns the addresses of d that may be dialled.
func (p addrPolicy) dialable(d wire.Descriptor) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range d.Addrs {
		if a.Port() != 0 && p.allows(a.Addr()) {
			out = append(out, a)
		}
	}
	return out
}

// told returns those of addrs that others need for dialling this node, at most
// wire.MaxAddrs. A loopback address is told only when there is no other.
func (p addrPolicy) told(addrs []ma.Multiaddr) []ma.Multiaddr {
	var out, loop []ma.Multiaddr
	for _, m := range addrs {
		a, ok := addrPortOf(m)
		switch {
		case !ok || !p.allows(a.Addr()):
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

// neighbourhood groups addresses that one party is likely to hold: the /16 of
// IPv4, the /32 of IPv6.
func neighbourhood(a netip.AddrPort) netip.Prefix { return relay.Neighbourhood(a.Addr()) }

// oneHome keeps those of addrs that lie in the neighbourhood of the first
// IPv4 and of the first IPv6 address. A descriptor holds no others: who could
// name many neighbourhoods would seem to live in whichever serves him.
func oneHome(addrs []netip.AddrPort) []netip.AddrPort {
	var home [2]netip.Prefix
	var out []netip.AddrPort
	for _, a := range addrs {
		h, kind := neighbourhood(a), 0
		if a.Addr().Is6() {
			kind = 1
		}
		if !home[kind].IsValid() {
			home[kind] = h
		}
		if home[kind] == h {
			out = append(out, a)
		}
	}
	return out
}
