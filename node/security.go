package node

import (
	"context"
	"net"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// security is libp2p's TLS over connections that gather their writes. On the
// wire it is the same.
type security struct{ *libp2ptls.Transport }

func newSecurity(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (security, error) {
	t, err := libp2ptls.New(id, key, muxers)
	return security{t}, err
}

// SecureInbound is as libp2ptls.Transport's.
func (s security) SecureInbound(ctx context.Context, c net.Conn, p peer.ID) (sec.SecureConn, error) {
	return s.Transport.SecureInbound(ctx, newGather(c), p)
}

// SecureOutbound is as libp2ptls.Transport's.
func (s security) SecureOutbound(ctx context.Context, c net.Conn, p peer.ID) (sec.SecureConn, error) {
	return s.Transport.SecureOutbound(ctx, eagerGather(c), p)
}
