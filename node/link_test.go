package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peerstore"

	"wanderfs/node/view/viewtest"
	"wanderfs/relay/wire"
)

func dialler(t *testing.T, key ed25519.PrivateKey) *transport {
	t.Helper()
	tr, err := newTransport(hostConfig{Key: key, Network: viewtest.Network, Lab: true, Reachability: Private, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// TestCloseAmidDial closes the transport while the dial of a neighbour looks
// at its addresses: the dial ends with an error.
func TestCloseAmidDial(t *testing.T) {
	tr := dialler(t, viewtest.Key(0))
	p, err := peerOf(viewtest.Relay(1, "127.0.0.1:1", 0, time.Now()).Node)
	if err != nil {
		t.Fatal(err)
	}
	tr.Peerstore().AddAddr(p, multiaddrOf(netip.MustParseAddrPort("127.0.0.1:1")), peerstore.TempAddrTTL)
	tr.gater.mu.Lock()
	done := make(chan error, 1)
	go func() { done <- tr.dial(t.Context(), p) }()
	stacks := make([]byte, 4<<20)
	for !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("(*gater).InterceptAddrDial")) {
		runtime.Gosched()
	}
	if err := tr.Host.Close(); err != nil {
		t.Error(err)
	}
	tr.gater.mu.Unlock()
	if err := <-done; err == nil {
		t.Error("connected")
	}
}

// TestDialAgain dials a neighbour that refused just now.
func TestDialAgain(t *testing.T) {
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().(*net.TCPAddr).AddrPort()
	free.Close()
	a, b := dialler(t, viewtest.Key(0)), dialler(t, viewtest.Key(1))
	d := wire.Descriptor{Node: b.id, Addrs: []netip.AddrPort{at}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 3 {
		if err := a.connect(ctx, d); err == nil {
			t.Fatal("connected to nobody")
		}
	}
	if err := b.Network().Listen(multiaddrOf(at)); err != nil {
		t.Fatal(err)
	}
	if err := a.connect(ctx, d); err != nil {
		t.Error(err)
	}
}
