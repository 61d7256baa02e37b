package node

import (
	"net/netip"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/view"
	"wanderfs/node/view/viewtest"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// TestGatewayOfManyHomes: a gateway that claims to live in several
// neighbourhoods of a kind is no route. Whoever publishes would else name those
// in which he supposes a reader's entries, and see which gateways the reader
// leaves out because they lie near both.
func TestGatewayOfManyHomes(t *testing.T) {
	s, err := relay.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		addrs []string
		want  int // routes
	}{
		"one":            {[]string{"10.1.0.1:1"}, 1},
		"two ports":      {[]string{"10.1.0.1:1", "10.1.2.3:2"}, 1},
		"one of each":    {[]string{"10.1.0.1:1", "[fd00:1::1]:1"}, 1},
		"two of IPv4":    {[]string{"10.1.0.1:1", "10.2.0.1:1"}, 0},
		"two of IPv6":    {[]string{"[fd00:1::1]:1", "10.1.0.1:1", "[fd00:2::1]:1"}, 0},
		"a public other": {[]string{"10.1.0.1:1", "8.8.8.8:1"}, 1}, // which a lab never dials
	} {
		g := viewtest.Relay(1, c.addrs[0], wire.FlagSuper, time.Now().Truncate(time.Second))
		g.Addrs = nil
		for _, a := range c.addrs {
			g.Addrs = append(g.Addrs, netip.MustParseAddrPort(a))
		}
		if err := g.Sign(viewtest.Key(1), viewtest.Network); err != nil {
			t.Fatal(err)
		}
		src := wire.Source{Keys: s.Keys(), Expires: time.Now().Add(time.Hour), Gateways: []wire.Descriptor{g}}
		src.Sign(s.SignKey(), viewtest.Network)
		b, err := src.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		f := &finder{network: viewtest.Network, policy: view.Policy{Lab: true}, paths: &paths{view: testView(nil)}}
		if got := len(f.routes(chunk.Raw([]byte("x")), [][]byte{b})); got != c.want {
			t.Errorf("%s: got %d routes, want %d", name, got, c.want)
		}
	}
}
