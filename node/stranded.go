package node

import (
	"net"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
)

// stranded finds connections whose own address this machine has lost, as a
// laptop does that is carried elsewhere. Nothing ends them: what is written to
// them is lost, the transport notices after half a minute and more, and until
// then every path is built over them in vain. It is used by one goroutine.
type stranded struct {
	lost map[netip.Addr]bool // at the last look
}

// look returns those of conns whose own address was missing at this look and at
// the one before: an address that comes back at once, as when a network cable
// is plugged in again, leaves its connections whole.
func (s *stranded) look(conns []network.Conn, own []net.Addr) []network.Conn {
	have := make(map[netip.Addr]bool, len(own))
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			have[p.Addr().Unmap().WithZone("")] = true
		}
	}
	lost := make(map[netip.Addr]bool)
	var out []network.Conn
	for _, c := range conns {
		at, ok := addrPortOf(c.LocalMultiaddr())
		if !ok || have[at.Addr()] {
			continue
		}
		lost[at.Addr()] = true
		if s.lost[at.Addr()] {
			out = append(out, c)
		}
	}
	s.lost = lost
	return out
}

// dropStranded closes such connections of the transport.
func (s *stranded) dropStranded(t *transport) {
	own, err := net.InterfaceAddrs()
	if err != nil || len(own) == 0 {
		return
	}
	for _, c := range s.look(t.Network().Conns(), own) {
		c.Close()
	}
}
