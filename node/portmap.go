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

const (
	mapLease = 2 * time.Hour   // what is asked for; RFC 6886 §3.3 recommends it
	mapAgain = 5 * time.Minute // after a router that did not answer
	mapWait  = time.Second     // for one answer
	mapGive  = 2 * time.Second // for a router to take its ports back when the node ends
)

// portMapper asks the router for a port: by UPnP as libp2p does, and by NAT-PMP
// (RFC 6886) itself. libp2p's own NAT-PMP never asks anybody on Linux, because
// the library that it takes the router's address from refuses its question. It
// implements basichost.NATManager.
type portMapper struct {
	basichost.NATManager // UPnP
	net                  network.Network
	cancel               context.CancelFunc
	wg                   sync.WaitGroup

	mu     sync.Mutex
	mapped map[uint16]netip.AddrPort // own port -> the router's; guarded by mu
}

func newPortMapper(n network.Network) basichost.NATManager {
	ctx, cancel := context.WithCancel(context.Background())
	m := &portMapper{NATManager: basichost.NewNATManager(&steadyListens{Network: n}), net: n, cancel: cancel, mapped: make(map[uint16]netip.AddrPort)}
	m.wg.Go(func() { m.run(ctx) })
	return m
}

// steadyListens does not tell that the node stops to listen. libp2p would begin
// to give the port back at that, with a context that ends a moment later, and
// count it as given back. A node stops to listen only when it ends, and then
// all ports are given back, in a context of their own.
type steadyListens struct {
	network.Network
	told network.NotifyBundle
}

// Notify implements network.Network.
func (s *steadyListens) Notify(f network.Notifiee) {
	s.told.ListenF = f.Listen
	s.Network.Notify(&s.told)
}

// StopNotify implements network.Network.
func (s *steadyListens) StopNotify(network.Notifiee) { s.Network.StopNotify(&s.told) }

// Close gives the ports back.
func (m *portMapper) Close() error {
	m.cancel()
	m.wg.Wait()
	given := make(chan error, 1)
	go func() { given <- m.NATManager.Close() }()
	select {
	case err := <-given:
		return err
	case <-time.After(mapGive): // libp2p waits up to 10 s for a silent router, which forgets in a minute by itself
		return nil
	}
}

// GetMapping returns the router's address for one of the node's, or nil.
func (m *portMapper) GetMapping(own ma.Multiaddr) ma.Multiaddr {
	if got := m.NATManager.GetMapping(own); got != nil {
		return got
	}
	a, ok := addrPortOf(own)
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, mapped := m.mapped[a.Port()]; ok && mapped && a.Addr().Is4() {
		return multiaddrOf(at)
	}
	return nil
}

func (m *portMapper) run(ctx context.Context) {
	wait := time.Second // the node listens by then
	var router *natpmp.Client
	for {
		select {
		case <-ctx.Done():
			for port := range m.mapped { // nobody else writes
				router.AddPortMapping("tcp", int(port), 0, 0)
			}
			return
		case <-time.After(wait):
		}
		wait = mapAgain
		b, err := os.ReadFile("/proc/net/route")
		at, ok := gatewayIn(string(b))
		if err != nil || !ok {
			continue
		}
		router = natpmp.NewClientWithTimeout(net.IP(at.AsSlice()), mapWait)
		if m.ask(router) {
			wait = mapLease / 2
		}
	}
}

// ask asks for all the ports at which the node listens.
func (m *portMapper) ask(router *natpmp.Client) bool {
	ext, err := router.GetExternalAddress()
	if err != nil {
		return false
	}
	for _, l := range m.net.ListenAddresses() {
		a, ok := addrPortOf(l)
		if !ok || !a.Addr().Is4() || a.Addr().IsLoopback() {
			continue
		}
		r, err := router.AddPortMapping("tcp", int(a.Port()), int(a.Port()), int(mapLease/time.Second))
		if err != nil {
			return false
		}
		m.mu.Lock()
		m.mapped[a.Port()] = netip.AddrPortFrom(netip.AddrFrom4(ext.ExternalIPAddress), r.MappedExternalPort)
		m.mu.Unlock()
	}
	return true
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
