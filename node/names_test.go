package node

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

// A name that a peer tells is never looked up; one that the user gives is.
func TestNamesOfPeersAreNotLookedUp(t *testing.T) {
	var asked atomic.Int64
	// libp2p's own resolver keeps this one from the start.
	net.DefaultResolver.PreferGo = true
	net.DefaultResolver.Dial = func(context.Context, string, string) (net.Conn, error) {
		asked.Add(1)
		return nil, errUnreachable
	}
	defer func() { net.DefaultResolver.PreferGo, net.DefaultResolver.Dial = false, nil }()

	a, b := startMesh(t, labConfig(t)), startMesh(t, labConfig(t))
	for _, m := range []string{"/dns4/leak.example/tcp/4001", "/dns/leak.example/tcp/4001", "/dnsaddr/leak.example"} {
		a.t.Peerstore().AddAddr(b.t.ID(), ma.StringCast(m), time.Hour)
	}
	if _, err := a.t.NewStream(t.Context(), b.t.ID(), a.t.protocols.index); err == nil {
		t.Error("dialled a name")
	}
	a.t.Peerstore().AddAddrs(b.t.ID(), b.t.Addrs(), peerstore.TempAddrTTL)
	if _, err := a.t.Network().DialPeer(t.Context(), b.t.ID()); err != nil || a.t.Network().Connectedness(b.t.ID()) != network.Connected {
		t.Errorf("not connected at the address: %v", err)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d names were looked up", n)
	}
	given := []ma.Multiaddr{ma.StringCast("/ip4/10.0.0.1/tcp/1"), ma.StringCast("/dns4/boot.example/tcp/4001")}
	if got := resolved(t.Context(), given); !slices.EqualFunc(got, given[:1], func(a, b ma.Multiaddr) bool { return a.Equal(b) }) || asked.Load() == 0 {
		t.Errorf("got %v after %d questions", got, asked.Load())
	}
	if got := resolved(t.Context(), []ma.Multiaddr{ma.StringCast("/dns4/localhost/tcp/4001")}); len(got) != 1 || got[0].String() != "/ip4/127.0.0.1/tcp/4001" {
		t.Errorf("got %v", got)
	}
}
