package portmap

import (
	"context"
	"net"
	"net/netip"
	"time"

	natpmp "github.com/jackpal/go-nat-pmp"
)

// findRouter asks by NAT-PMP, which takes a packet, then by UPnP.
func findRouter(ctx context.Context, at lan) (forwarder, error) {
	p := pmpRouter{natpmp.NewClientWithTimeout(net.IP(at.router.AsSlice()), answerMost)}
	if _, err := p.external(ctx); err == nil {
		return p, nil
	}
	if ctx.Err() != nil {
		return nil, errNoRouter
	}
	u, err := findUPnP(ctx, at.own)
	if err != nil {
		return nil, err // not u: it would not be nil
	}
	return u, nil
}

// pmpRouter is a router that speaks NAT-PMP. It implements forwarder.
type pmpRouter struct{ c *natpmp.Client }

func (p pmpRouter) external(context.Context) (netip.Addr, error) {
	r, err := p.c.GetExternalAddress()
	if err != nil {
		return netip.Addr{}, errNoRouter
	}
	return netip.AddrFrom4(r.ExternalIPAddress), nil
}

func (p pmpRouter) open(_ context.Context, port uint16, lease time.Duration) (uint16, error) {
	r, err := p.c.AddPortMapping("tcp", int(port), int(port), int(lease/time.Second))
	if err != nil {
		return 0, errNoRouter
	}
	return r.MappedExternalPort, nil
}

func (p pmpRouter) close(_ context.Context, port uint16) {
	p.c.AddPortMapping("tcp", int(port), 0, 0) // a router that does not hear forgets by itself
}
