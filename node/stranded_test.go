package node

import (
	"net"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// connAt is a connection of which only the own address counts.
type connAt struct {
	network.Conn
	at string
}

func (c connAt) LocalMultiaddr() ma.Multiaddr { return ma.StringCast(c.at) }

// A connection is closed when its own address was gone twice in a row.
func TestStranded(t *testing.T) {
	here := func(addrs ...string) (out []net.Addr) {
		for _, s := range addrs {
			ip, n, err := net.ParseCIDR(s)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		return out
	}
	four, six := connAt{at: "/ip4/11.1.0.1/tcp/4001"}, connAt{at: "/ip6/2600::1/tcp/30000"}
	lo := connAt{at: "/ip4/127.0.0.1/tcp/4001"}
	conns := []network.Conn{four, six, lo}
	var s stranded
	for i, c := range []struct {
		own  []net.Addr
		want []network.Conn
	}{
		{here("127.0.0.1/8", "11.1.0.1/16", "2600::1/64"), nil},
		{here("127.0.0.1/8", "2600::1/64"), nil}, // for a moment
		{here("127.0.0.1/8", "11.1.0.1/16"), nil},
		{here("127.0.0.1/8", "192.168.1.2/24"), []network.Conn{six}},
		{here("127.0.0.1/8", "192.168.1.2/24"), []network.Conn{four, six}},
	} {
		if got := s.look(conns, c.own); !slices.Equal(got, c.want) {
			t.Errorf("look %d: got %v, want %v", i, got, c.want)
		}
	}
}
