package node

import (
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
)

// Sizes of the transport. Windows follow 2 x rate x round trip of one link:
// 20 MB/s at 100 ms need 4 MiB.
const (
	initialWindow = 4 << 20  // bytes of one stream's first receive window
	maxWindow     = 16 << 20 // bytes it may grow to

	maxStreams      = 8192 // all peers together
	maxPeerStreams  = 1024 // one peer
	maxCircuits     = 4096 // streams of the relay protocol
	maxPeerCircuits = 512  // the same with one peer
	maxConns        = 512
	maxPeerConns    = 8
	maxMemory       = 1 << 30 // bytes of windows beyond the first 256 KiB of each
	maxPeerMemory   = 256 << 20
	maxSubnetConns  = 64 // from one IPv4 /24 or IPv6 /48; 8 from one address
)

// newLimits sets the resource manager's limits by hand: its defaults hold 64
// circuits between a pair of relays and 8 MiB of their windows together.
func newLimits(p protocols, lab bool) (network.ResourceManager, error) {
	lim := func(streams, conns int, memory int64) rcmgr.ResourceLimits {
		return rcmgr.ResourceLimits{
			Streams: rcmgr.LimitVal(streams), StreamsInbound: rcmgr.LimitVal(streams), StreamsOutbound: rcmgr.LimitVal(streams),
			Conns: rcmgr.LimitVal(conns), ConnsInbound: rcmgr.LimitVal(conns), ConnsOutbound: rcmgr.LimitVal(conns),
			FD: rcmgr.LimitVal(conns), Memory: rcmgr.LimitVal64(memory),
		}
	}
	def := rcmgr.DefaultLimits
	cfg := rcmgr.PartialLimitConfig{
		System:              lim(maxStreams, maxConns, maxMemory),
		Transient:           lim(512, 256, 64<<20),
		PeerDefault:         lim(maxPeerStreams, maxPeerConns, maxPeerMemory),
		ProtocolDefault:     lim(1024, maxConns, 128<<20),
		ProtocolPeerDefault: lim(128, maxPeerConns, 32<<20),
		ServiceDefault:      lim(1024, maxConns, 128<<20),
		ServicePeerDefault:  lim(128, maxPeerConns, 32<<20),
		Conn:                lim(maxPeerStreams, 1, maxPeerMemory),
		Stream:              lim(1, 1, 2*maxWindow),
		Protocol:            map[protocol.ID]rcmgr.ResourceLimits{p.relay: lim(maxCircuits, maxConns, maxMemory)},
		ProtocolPeer:        map[protocol.ID]rcmgr.ResourceLimits{p.relay: lim(maxPeerCircuits, maxPeerConns, maxPeerMemory)},
	}
	concrete := cfg.Build(def.Scale(maxMemory, 2*maxConns))

	v4 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: 8}, {PrefixLength: 24, ConnCount: maxSubnetConns}}
	v6 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: 8}, {PrefixLength: 48, ConnCount: maxSubnetConns}}
	opts := []rcmgr.Option{rcmgr.WithLimitPerSubnet(v4, v6), rcmgr.WithMetricsDisabled()}
	if lab { // many nodes of a laboratory share an address
		opts = append(opts, rcmgr.WithNetworkPrefixLimit(
			[]rcmgr.NetworkPrefixLimit{
				{Network: netip.MustParsePrefix("127.0.0.0/8"), ConnCount: maxConns},
				{Network: netip.MustParsePrefix("10.0.0.0/8"), ConnCount: maxConns},
				{Network: netip.MustParsePrefix("172.16.0.0/12"), ConnCount: maxConns},
				{Network: netip.MustParsePrefix("192.168.0.0/16"), ConnCount: maxConns},
			},
			[]rcmgr.NetworkPrefixLimit{
				{Network: netip.MustParsePrefix("::1/128"), ConnCount: maxConns},
				{Network: netip.MustParsePrefix("fc00::/7"), ConnCount: maxConns},
			}))
	}
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(concrete), opts...)
	if err != nil {
		return nil, fmt.Errorf("set transport limits: %w", err)
	}
	return rm, nil
}

// muxer returns yamux with the windows of this network.
func muxer() network.Multiplexer {
	cfg := *yamux.DefaultTransport
	cfg.InitialStreamWindowSize = initialWindow
	cfg.MaxStreamWindowSize = maxWindow
	return &cfg
}
