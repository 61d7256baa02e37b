package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"wanderfs/node/mux"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// errUnreachable says that a neighbour could not be dialled. Another one may
// do.
var errUnreachable = errors.New("neighbour unreachable")

// link is one circuit's stream to a neighbour whose key TLS has checked. It
// implements relay.Link.
type link struct {
	network.Stream
	mux  *mux.Stream // behind it
	peer wire.NodeID
	turn *relay.Place
	up   *relay.Budget   // of what is sent; set before the first Write
	over context.Context // ends with the link
	done func()

	read, wrote bool // libp2p has agreed on the protocol; each used by who reads, or writes
}

// Peer returns the neighbour.
func (l *link) Peer() wire.NodeID { return l.peer }

// Origin gives the /16 or /32 that the neighbour's connection comes from; none
// on loopback, where all are in one.
func (l *link) Origin() netip.Prefix {
	at, ok := addrPortOf(l.Conn().RemoteMultiaddr())
	if !ok || at.Addr().IsLoopback() {
		return netip.Prefix{}
	}
	return relay.Neighbourhood(at.Addr())
}

// Close closes both directions after what was written has gone.
func (l *link) Close() error {
	l.done()
	l.turn.Close()
	return hide(l.Stream.Close())
}

// Reset ends the stream at once on both sides.
func (l *link) Reset() error {
	l.done()
	l.turn.Close()
	return hide(l.Stream.Reset())
}

// Read reads from the neighbour.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.Stream.Read(p)
	l.read = l.read || n > 0
	return n, hide(err)
}

// ReadFrame implements relay.FrameLink.
func (l *link) ReadFrame() (*relay.Buffer, error) {
	if !l.read {
		return nil, nil
	}
	b, err := l.mux.ReadFrame()
	return b, hide(err)
}

// Write writes to the neighbour, at the rate that the user allows, in turn with
// the other circuits on the connection.
func (l *link) Write(p []byte) (int, error) {
	if l.up.Wait(l.over, len(p)) != nil {
		return 0, errBroken
	}
	n, err := l.turn.Write(l.Stream, p)
	l.wrote = l.wrote || n > 0
	return n, hide(err)
}

// WriteFrame implements relay.FrameLink.
func (l *link) WriteFrame(b []byte) error {
	if !l.wrote {
		_, err := l.Write(b[relay.LinkRoom:])
		return err
	}
	if l.up.Wait(l.over, len(b)-relay.LinkRoom) != nil {
		return errBroken
	}
	return hide(l.turn.WriteFrame(l.mux, b))
}

// Count implements relay.FrameLink.
func (l *link) Count(r relay.Room) { l.mux.Count(r) }

// Unread implements relay.FrameLink.
func (l *link) Unread() int64 { return l.mux.Unread() }

// SetReadDeadline bounds reads.
func (l *link) SetReadDeadline(at time.Time) error { return hide(l.Stream.SetReadDeadline(at)) }

// SetWriteDeadline bounds writes.
func (l *link) SetWriteDeadline(at time.Time) error {
	l.turn.SetDeadline(at)
	return hide(l.Stream.SetWriteDeadline(at))
}

// errBroken says that a neighbour ended a stream, or that the connection did.
var errBroken = errors.New("stream broken")

// hide replaces an error that may name a peer or an address by one that does
// not. io.EOF stays, and a passed deadline is os.ErrDeadlineExceeded.
func hide(err error) error {
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil, err == io.EOF:
		return err
	case errors.As(err, &timeout) && timeout.Timeout():
		return os.ErrDeadlineExceeded
	}
	return errBroken
}

// linkCounts protects the connections that circuits use from being trimmed.
type linkCounts struct {
	mu sync.Mutex
	n  map[peer.ID]int // guarded by mu
}

const protectTag = "circuit"

// hold protects the connection to p until the returned function is first
// called.
func (t *transport) hold(p peer.ID) func() {
	t.links.mu.Lock()
	if t.links.n == nil {
		t.links.n = make(map[peer.ID]int)
	}
	if t.links.n[p]++; t.links.n[p] == 1 {
		t.ConnManager().Protect(p, protectTag)
	}
	t.links.mu.Unlock()
	return sync.OnceFunc(func() {
		t.links.mu.Lock()
		defer t.links.mu.Unlock()
		if t.links.n[p]--; t.links.n[p] == 0 {
			delete(t.links.n, p)
			t.ConnManager().Unprotect(p, protectTag)
		}
	})
}

// connect makes sure that there is a connection to the node of d. It dials the
// addresses that d signs and no other, and TLS holds the far end to its key.
func (t *transport) connect(ctx context.Context, d wire.Descriptor) error {
	p, err := peerOf(d.Node)
	if err != nil {
		return err
	}
	if t.Network().Connectedness(p) == network.Connected {
		return nil
	}
	addrs := t.policy.Dialable(d)
	if len(addrs) == 0 || d.Node == t.id {
		return fmt.Errorf("dial neighbour: %w", errUnreachable)
	}
	at := make([]ma.Multiaddr, 0, len(addrs))
	for _, a := range addrs {
		at = append(at, multiaddrOf(a))
	}
	t.Peerstore().AddAddrs(p, at, peerstore.TempAddrTTL)
	defer t.gater.restrict(p, addrs)()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := t.dial(ctx, p); err != nil {
		if cause := context.Cause(ctx); cause != nil && errors.Is(cause, context.Canceled) {
			return fmt.Errorf("dial neighbour: %w", cause)
		}
		return fmt.Errorf("dial neighbour: %w", errUnreachable)
	}
	return nil
}

// dial dials p at the addresses that the peerstore has and the gater allows,
// also where a dial failed just now: the view tells whom to spare. libp2p's
// forced dials do so too, but one that looks at its addresses while the host is
// closed crashes: it takes it that they still have a transport.
func (t *transport) dial(ctx context.Context, p peer.ID) error {
	if s, ok := t.Network().(interface{ Backoff() *swarm.DialBackoff }); ok {
		s.Backoff().Clear(p)
	}
	_, err := t.Network().DialPeer(ctx, p) // not Connect: it waits for identify, which tells nothing that is needed
	return err
}

// open opens a stream of one protocol to the node of d.
func (t *transport) open(ctx context.Context, d wire.Descriptor, proto protocol.ID) (network.Stream, error) {
	if err := t.connect(ctx, d); err != nil {
		return nil, err
	}
	p, err := peerOf(d.Node)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	s, err := t.eagerStream(ctx, p, proto)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", errUnreachable)
	}
	return s, nil
}

// neighbours opens the links of circuits. It implements relay.Network. It
// notes nothing in the view: whom others want to reach, and whether they can,
// must not change this node's own choice of relays.
type neighbours struct{ t *transport }

// Dial opens a circuit's stream to the node of d.
func (n neighbours) Dial(ctx context.Context, d wire.Descriptor) (relay.Link, error) {
	l, err := n.dial(ctx, d)
	if err != nil {
		return nil, err // not l: it would not be nil
	}
	return l, nil
}

func (n neighbours) dial(ctx context.Context, d wire.Descriptor) (*link, error) {
	s, err := n.t.open(ctx, d, n.t.protocols.relay)
	if err != nil {
		return nil, err
	}
	l, err := n.t.newLink(s)
	if err != nil {
		s.Reset()
		return nil, err
	}
	if l.peer != d.Node { // TLS has seen to it; circuits rest on it
		l.Reset()
		return nil, fmt.Errorf("open stream: %w", errBadPeer)
	}
	return l, nil
}

// newLink wraps a stream, incoming or outgoing.
func (t *transport) newLink(s network.Stream) (*link, error) {
	p := s.Conn().RemotePeer()
	id, err := nodeOf(p)
	if err != nil {
		return nil, err
	}
	var m *mux.Conn
	if !s.Conn().As(&m) {
		return nil, errBroken // not a connection of this transport
	}
	ms := m.StreamOf(s)
	if ms == nil {
		return nil, errBroken
	}
	ms.Open()
	l := &link{Stream: s, mux: ms, peer: id, turn: m.Place(), up: t.shares.Relayed()}
	over, end := context.WithCancel(context.Background())
	release := t.hold(p)
	l.over, l.done = over, func() { end(); release() }
	return l, nil
}
