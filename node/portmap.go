package node

import (
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	natpmp "github.com/jackpal/go-nat-pmp"
	"github.com/libp2p/go-libp2p/core/network"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	ma "github.com/multiformats/go-multiaddr"
)

// All are ours; any value works.
const (
	mapLease = 30 * time.Minute // what is asked for
	mapRenew = 2 * time.Minute  // a router that began anew has forgotten
	mapAgain = 5 * time.Minute  // after nobody answered
	mapLook  = 5 * time.Second  // between two looks whether this is the same router still
	mapWait  = time.Second      // for one answer by NAT-PMP
	mapFind  = 15 * time.Second // for a router to be found and asked
	mapGive  = 2 * time.Second  // for a router to take its ports back
	mapLost  = 3                // renewals that fail in a row, and what was forwarded is forgotten
)

// portMapper asks the router for a port, by NAT-PMP (RFC 6886) and by UPnP. It
// does so anew where the machine comes behind another router, where the router
// forgot, and now and then where none answered. libp2p has the same, but looks
// for a router once, when it starts, never asks by NAT-PMP on Linux, because the
// library that it takes the router's address from refuses its question, and has
// goroutines that outlive it by ten seconds. It implements basichost.NATManager.
type portMapper struct {
	listens func() []ma.Multiaddr
	home    func() (lan, bool)
	find    func(context.Context, lan) (portRouter, error)
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	mapped map[uint16]netip.AddrPort // own port -> the router's; guarded by mu
}

// portRouter is a router that forwards ports. Every call ends with its context
// or soon, and errors name no address.
type portRouter interface {
	external(ctx context.Context) (netip.Addr, error)
	open(ctx context.Context, port uint16, lease time.Duration) (outside uint16, err error)
	close(ctx context.Context, port uint16)
}

// lan is where this machine is: behind which router, and what it is there.
type lan struct {
	router netip.Addr
	own    netip.Prefix
}

func newPortMapper(n network.Network) basichost.NATManager {
	m := &portMapper{listens: n.ListenAddresses, home: whereabouts, find: findRouter}
	m.start()
	return m
}

func (m *portMapper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel, m.mapped = cancel, make(map[uint16]netip.AddrPort)
	m.wg.Go(func() { m.run(ctx) })
}

// Close gives the ports back and waits for that, mapGive and mapWait at most.
// It may be called twice.
func (m *portMapper) Close() error {
	m.cancel()
	m.wg.Wait()
	return nil
}

// HasDiscoveredNAT reports whether a router forwards a port.
func (m *portMapper) HasDiscoveredNAT() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.mapped) > 0
}

// GetMapping returns the router's address for one of the node's, or nil.
func (m *portMapper) GetMapping(own ma.Multiaddr) ma.Multiaddr {
	a, ok := addrPortOf(own)
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, mapped := m.mapped[a.Port()]; ok && mapped && a.Addr().Is4() {
		return multiaddrOf(at)
	}
	return nil
}

func (m *portMapper) run(ctx context.Context) {
	var at lan
	var router portRouter
	var due time.Time
	failed := 0
	tick := time.NewTicker(time.Second) // the node listens by then
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.giveBack(router)
			return
		case <-tick.C:
			tick.Reset(mapLook)
		}
		now := time.Now()
		here, ok := m.home()
		if here != at { // the router left behind cannot be reached any more, and forgets
			at, router, due = here, nil, now
			m.forget()
		}
		if !ok || now.Before(due) {
			continue
		}
		asking, done := context.WithTimeout(ctx, mapFind)
		err := error(nil)
		if router == nil {
			router, err = m.find(asking, at)
		}
		if err == nil {
			err = m.ask(asking, router)
		}
		done()
		due = time.Now().Add(mapRenew)
		switch {
		case err == nil:
			failed = 0
		case ctx.Err() != nil:
		case !m.HasDiscoveredNAT():
			router, due = nil, time.Now().Add(mapAgain)
		default: // a lost answer is no lost port
			if failed++; failed < mapLost {
				due = time.Now().Add(mapLook)
				break
			}
			m.forget()
			router, failed = nil, 0 // it may speak from another place now
			due = time.Now()
		}
	}
}

// ask asks for all the ports at which the node listens.
func (m *portMapper) ask(ctx context.Context, router portRouter) error {
	ext, err := router.external(ctx)
	if err != nil {
		return err
	}
	for _, l := range m.listens() {
		a, ok := addrPortOf(l)
		if !ok || !a.Addr().Is4() || a.Addr().IsLoopback() {
			continue
		}
		outside, err := router.open(ctx, a.Port(), mapLease)
		if err != nil {
			return err
		}
		m.mu.Lock()
		m.mapped[a.Port()] = netip.AddrPortFrom(ext, outside)
		m.mu.Unlock()
	}
	return nil
}

func (m *portMapper) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.mapped)
}

func (m *portMapper) giveBack(router portRouter) {
	if router == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), mapGive)
	defer cancel()
	for port := range m.mapped { // nobody else writes
		if ctx.Err() != nil {
			return
		}
		router.close(ctx, port)
	}
}

// findRouter asks by NAT-PMP, which takes a packet, then by UPnP.
func findRouter(ctx context.Context, at lan) (portRouter, error) {
	p := pmpRouter{natpmp.NewClientWithTimeout(net.IP(at.router.AsSlice()), mapWait)}
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

// pmpRouter is a router that speaks NAT-PMP. It implements portRouter.
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

// whereabouts finds the default router and this machine's address on the way to
// it. Where that one is public nobody need forward anything.
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
			at := lan{router, p}
			return at, !(addrPolicy{}).allows(p.Addr())
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
