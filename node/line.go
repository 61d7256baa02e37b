package node

import (
	"net"

	"github.com/libp2p/go-libp2p/core/network"

	"wanderfs/relay"
)

// fairMuxer is a multiplexer whose connections let circuits write in turn. On
// the wire nothing changes.
type fairMuxer struct{ network.Multiplexer }

// NewConn implements network.Multiplexer.
func (m fairMuxer) NewConn(c net.Conn, isServer bool, scope network.PeerScope) (network.MuxedConn, error) {
	f := &sentConn{Conn: c, turns: relay.NewLine(0)}
	mc, err := m.Multiplexer.NewConn(f, isServer, scope)
	if err != nil {
		return nil, err
	}
	return fairConn{mc, f.turns}, nil
}

// fairConn is a connection that tells its Line to those who ask by As.
type fairConn struct {
	network.MuxedConn
	turns *relay.Line
}

// As implements network.MuxedConn.
func (c fairConn) As(target any) bool {
	if t, ok := target.(**relay.Line); ok {
		*t = c.turns
		return true
	}
	return c.MuxedConn.As(target)
}

// yamux's header: version, type, flags (2), stream (4), length (4). Its session
// writes one message at a time, header and body in one Write.
const (
	muxHeader   = 12
	muxTypeByte = 1
	muxTypeData = 0
)

// sentConn tells Line what the multiplexer has written of streams' data.
type sentConn struct {
	net.Conn
	turns *relay.Line
}

func (c *sentConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if len(p) > muxHeader && p[muxTypeByte] == muxTypeData {
		c.turns.Sent(len(p) - muxHeader)
	}
	return n, err
}
