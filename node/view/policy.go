package view

import (
	"net/netip"
	"slices"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// Policy says which addresses exist for a node: in a laboratory network
// private and loopback ones, elsewhere public ones. The other kind is neither
// dialled, nor accepted, nor told.
type Policy struct{ Lab bool }

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

// Allows reports whether ip is one that this node deals with.
func (p Policy) Allows(ip netip.Addr) bool {
	ip = ip.Unmap()
	if !ip.IsValid() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() {
		return false
	}
	if p.Lab {
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

// Dialable returns the addresses of d that may be dialled.
func (p Policy) Dialable(d wire.Descriptor) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range d.Addrs {
		if a.Port() != 0 && p.Allows(a.Addr()) {
			out = append(out, a)
		}
	}
	return out
}

// Accepts reports whether d names addresses that may be dialled, and none in a
// second neighbourhood of a kind.
func (p Policy) Accepts(d wire.Descriptor) bool {
	at := p.Dialable(d)
	return len(at) > 0 && len(OneHome(at)) == len(at)
}

// OneHome keeps those of addrs that lie in the neighbourhood of the first
// IPv4 and of the first IPv6 address. A descriptor holds no others: who could
// name many neighbourhoods would seem to live in whichever serves him.
func OneHome(addrs []netip.AddrPort) []netip.AddrPort {
	var home [2]netip.Prefix
	var out []netip.AddrPort
	for _, a := range addrs {
		h, kind := relay.Neighbourhood(a.Addr()), 0
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
