package fetch

import (
	"slices"
	"testing"

	"wanderfs/relay/wire"
)

// gatewayRoute leads to a publisher by one of several gateways.
type gatewayRoute struct {
	*publisher
	gateway byte
}

// Gateway implements Route.
func (r gatewayRoute) Gateway() wire.NodeID { return wire.NodeID{r.gateway} }

// What is known of how dials to a gateway went stays with it, in whatever order
// a later search names the gateways; one that is new begins anew.
func TestSearchKeepsWhatIsKnownOfAGateway(t *testing.T) {
	c := newContent(t, 1<<20, 3)
	p := newPublisher(t, c.blocks)
	fd := found(gatewayRoute{p, 1}, gatewayRoute{p, 2}, gatewayRoute{p, 3})
	f := New(Config{Finder: fd})
	defer f.Close()
	task := newTask(f, c.root)
	defer task.cancel()
	task.search(0)
	for _, c := range task.find.cands {
		c.fails = int(c.route.Gateway()[0])
	}
	fd.routes = []Route{gatewayRoute{p, 4}, gatewayRoute{p, 3}, gatewayRoute{p, 1}}
	task.search(0)
	var got []int
	for _, c := range task.find.cands {
		got = append(got, c.fails)
	}
	if want := []int{0, 3, 1}; !slices.Equal(got, want) {
		t.Errorf("failed dials: got %v, want %v", got, want)
	}
}
