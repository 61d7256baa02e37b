package node

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	p2ptransport "github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	manet "github.com/multiformats/go-multiaddr/net"
	multistream "github.com/multiformats/go-multistream"
)

// A path that is built over relays which are not connected yet waits for a new
// connection at each of them, one after the other. libp2p takes four round
// trips for the first byte of a stream on a new connection: TCP, the agreement
// on TLS, TLS, and identify, which says what the other one speaks. All nodes of
// a network speak TLS and the same protocols, so that the second and the fourth
// tell nothing: here nobody waits for them. What is agreed on is the same, byte
// by byte, and is checked when the answer is there.

// newTCP is libp2p's TCP, whose dials do not wait for the agreement on TLS.
func newTCP(u p2ptransport.Upgrader, rcmgr network.ResourceManager, shared *tcpreuse.ConnMgr) (*tcp.TcpTransport, error) {
	return tcp.NewTCPTransport(eagerUpgrader{u}, rcmgr, shared, tcp.DisableReuseport())
}

type eagerUpgrader struct{ p2ptransport.Upgrader }

// Upgrade implements transport.Upgrader.
func (u eagerUpgrader) Upgrade(ctx context.Context, t p2ptransport.Transport, c manet.Conn, dir network.Direction, p peer.ID, scope network.ConnManagementScope) (p2ptransport.CapableConn, error) {
	if dir == network.DirOutbound {
		c = newEagerConn(c)
	}
	return u.Upgrader.Upgrade(ctx, t, c, dir, p, scope)
}

// errProposal says that the other end does not take what it was proposed.
var errProposal = errors.New("proposal refused")

// eagerConn is a dialled connection. The first Write proposes a protocol, with
// multistream-select; who takes it repeats it, so that reads give it back at
// once. What follows can be sent in the same round trip; before anything of the
// other end's is read, its own answer is.
type eagerConn struct {
	manet.Conn
	proposed chan struct{} // closed by the first Write, or by Close
	once     sync.Once
	given    []byte // what is left to give back; after proposed by who reads
	in       answered
}

func newEagerConn(c manet.Conn) *eagerConn {
	return &eagerConn{Conn: c, proposed: make(chan struct{}), in: answered{Conn: c}}
}

// Write implements net.Conn.
func (c *eagerConn) Write(p []byte) (int, error) {
	c.once.Do(func() {
		c.given = bytes.Clone(p)
		c.in.due = c.given
		close(c.proposed)
	})
	return c.Conn.Write(p)
}

// Read implements net.Conn.
func (c *eagerConn) Read(p []byte) (int, error) {
	<-c.proposed
	if len(c.given) > 0 {
		n := copy(p, c.given)
		c.given = c.given[n:]
		return n, nil
	}
	return c.in.Read(p)
}

// Close implements net.Conn.
func (c *eagerConn) Close() error {
	c.once.Do(func() { close(c.proposed) })
	return c.Conn.Close()
}

// answered is a connection whose other end has to say due before anything else.
type answered struct {
	net.Conn
	due []byte
}

// Read implements net.Conn.
func (c *answered) Read(p []byte) (int, error) {
	for len(c.due) > 0 {
		b := make([]byte, len(c.due)) // no more: what follows belongs to the caller
		n, err := c.Conn.Read(b)
		if !bytes.HasPrefix(c.due, b[:n]) {
			return 0, errProposal
		}
		c.due = c.due[n:]
		if err != nil && len(c.due) > 0 {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

// eagerGather gathers a connection's writes, once the protocol is proposed.
func eagerGather(c net.Conn) *gather {
	e, ok := c.(*eagerConn)
	if !ok {
		return newGather(c)
	}
	g := newGather(e.Conn)
	g.Conn = &answered{g.Conn, e.in.due}
	return g
}

// eagerStream opens a stream of a protocol that all nodes speak to p, which is
// connected. The first write carries the proposal; if it is refused, the first
// read fails.
func (t *transport) eagerStream(ctx context.Context, p peer.ID, proto protocol.ID) (network.Stream, error) {
	s, err := t.Network().NewStream(network.WithNoDial(ctx, "connected"), p)
	if err != nil {
		return nil, err
	}
	if err := s.SetProtocol(proto); err != nil {
		s.Reset()
		return nil, err
	}
	return &eagerStream{s, multistream.NewMSSelect(s, proto)}, nil
}

// eagerStream is as libp2p's own for protocols that identify has told of.
type eagerStream struct {
	network.Stream
	agreeing multistream.LazyConn
}

// Read implements network.Stream.
func (s *eagerStream) Read(p []byte) (int, error) { return s.agreeing.Read(p) }

// Write implements network.Stream.
func (s *eagerStream) Write(p []byte) (int, error) { return s.agreeing.Write(p) }

// Close implements network.Stream. It waits for the answer to the proposal.
func (s *eagerStream) Close() error {
	s.Stream.SetReadDeadline(time.Now().Add(dialTimeout))
	return s.agreeing.Close()
}

// CloseWrite implements network.Stream.
func (s *eagerStream) CloseWrite() error {
	if f, ok := s.agreeing.(interface{ Flush() error }); ok {
		f.Flush() // who reads gets the error
	}
	return s.Stream.CloseWrite()
}
