package node

import (
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"

	"wanderfs/node/mux"
	"wanderfs/relay"
)

// Sizes of the transport.
const (
	maxConns       = 2048
	maxTransient   = 512 // of them, that are being made
	ownConns       = 128 // of both kinds, kept for those that this node makes
	maxPeerConns   = 8
	maxAddrConns   = 32  // from one IPv4 address, which many users may share, or IPv6 /56
	maxSubnetConns = 128 // from one IPv4 /24 or IPv6 /48
	ownCircuits    = 512 // of own paths
	otherStreams   = 512 // of other protocols, all peers together
	refused        = 256 // streams that are about to be refused by the relay, so that it is the relay who does it

	growth     = 1 << 30 // bytes that windows may grow beyond the counted ones, all peers together
	peerGrowth = 256 << 20
)

// newLimits sets the resource manager's limits from those of the relay, so
// that the relay is who refuses a circuit, in an orderly way and by rules that
// know neighbours from targets, and the resource manager only backs it up.
// The defaults hold 64 circuits between a pair of relays and 8 MiB of their
// windows together.
//
// The multiplexer reserves the first window of each stream, and lets one grow
// only while less than half of a limit is reserved. A circuit's is 4 MiB from
// the start, of which only the first 256 KiB are reserved: what really piles up
// there unread counts in the relay's pool.
func newLimits(p protocols, l relay.Limits, lab bool) (network.ResourceManager, error) {
	l = l.WithDefaults()
	lim := func(in, out, conns int, memory int64) rcmgr.ResourceLimits {
		return rcmgr.ResourceLimits{
			Streams: rcmgr.LimitVal(in + out), StreamsInbound: rcmgr.LimitVal(in), StreamsOutbound: rcmgr.LimitVal(out),
			Conns: rcmgr.LimitVal(conns), ConnsInbound: rcmgr.LimitVal(conns), ConnsOutbound: rcmgr.LimitVal(conns),
			FD: rcmgr.LimitVal(conns), Memory: rcmgr.LimitVal64(memory),
		}
	}
	// Strangers who fill the node with connections, or with halves of them, must
	// not keep it from dialling: it would have but them to choose from.
	spare := func(l rcmgr.ResourceLimits, conns int) rcmgr.ResourceLimits {
		l.ConnsInbound = rcmgr.LimitVal(conns - ownConns)
		return l
	}
	windows := func(in, out int) int64 { return int64(in+out) * mux.FirstWindow }
	// Each circuit comes in once and may go on once.
	in, out := l.Circuits+refused, l.Circuits+ownCircuits
	peerIn, peerOut := l.PerNeighbour+refused, l.PerNeighbour+ownCircuits
	allIn, allOut := in+otherStreams, out+otherStreams
	onePeerIn, onePeerOut := peerIn+128, peerOut+128
	memory := windows(allIn, allOut) + growth
	peerMemory := windows(onePeerIn, onePeerOut) + peerGrowth
	def := rcmgr.DefaultLimits
	cfg := rcmgr.PartialLimitConfig{
		System:              spare(lim(allIn, allOut, maxConns, memory), maxConns),
		Transient:           spare(lim(onePeerIn, onePeerOut, maxTransient, 256<<20), maxTransient),
		PeerDefault:         lim(onePeerIn, onePeerOut, maxPeerConns, peerMemory),
		ProtocolDefault:     lim(otherStreams, otherStreams, maxConns, 128<<20),
		ProtocolPeerDefault: lim(128, 128, maxPeerConns, 32<<20),
		ServiceDefault:      lim(otherStreams, otherStreams, maxConns, 128<<20),
		ServicePeerDefault:  lim(128, 128, maxPeerConns, 32<<20),
		Conn:                lim(onePeerIn, onePeerOut, 1, peerMemory),
		Stream:              lim(1, 1, 1, 2*mux.MaxWindow),
		Protocol:            map[protocol.ID]rcmgr.ResourceLimits{p.relay: lim(in, out, maxConns, memory)},
		ProtocolPeer:        map[protocol.ID]rcmgr.ResourceLimits{p.relay: lim(peerIn, peerOut, maxPeerConns, peerMemory)},
	}
	concrete := cfg.Build(def.Scale(memory, 2*maxConns))

	v4 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: maxAddrConns}, {PrefixLength: 24, ConnCount: maxSubnetConns}}
	v6 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: maxAddrConns}, {PrefixLength: 48, ConnCount: maxSubnetConns}}
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
