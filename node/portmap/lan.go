package portmap

import (
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"strings"
)

// lan is where this machine is: behind which router, and what it is there.
type lan struct {
	router netip.Addr
	own    netip.Prefix
}

// whereabouts finds the default router and this machine's address on the way to
// it.
func whereabouts() (lan, bool) {
	table, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return lan{}, false
	}
	router, ok := gatewayIn(string(table))
	own, err := net.InterfaceAddrs()
	if !ok || err != nil {
		return lan{}, false
	}
	for _, a := range own {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is4() && p.Contains(router) {
			return lan{router, p}, true
		}
	}
	return lan{}, false
}

// gatewayIn finds the default router in the kernel's table of IPv4 routes:
// interface, destination, gateway and more, the addresses in hexadecimal with
// the first byte last.
func gatewayIn(table string) (netip.Addr, bool) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != "00000000" || f[2] == "00000000" {
			continue
		}
		b, err := hex.DecodeString(f[2])
		if err == nil && len(b) == 4 {
			return netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}), true
		}
	}
	return netip.Addr{}, false
}
