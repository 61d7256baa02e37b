package node

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"

	"wanderfs/node/mux"
	"wanderfs/node/view"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// Values of Config.Reachability.
const (
	Auto    = "auto"    // found out by asking others; in a laboratory network: public
	Public  = "public"  // others can dial this node
	Private = "private" // nobody can
)

const dialTimeout = 5 * time.Second // ours: TCP and TLS

// transport is the libp2p host with what this node needs of it: TCP, TLS 1.3
// and yamux only. All its methods are safe for concurrent use.
type transport struct {
	host.Host
	key       ed25519.PrivateKey
	id        wire.NodeID
	network   string
	protocols protocols
	policy    view.Policy
	gater     *gater
	reach     reachability
	links     linkCounts
	intake    intake
	shares    *relay.Shares // of what circuits' links send; nil is no limit
}

// hostConfig is the part of Config that the transport needs.
type hostConfig struct {
	Key          ed25519.PrivateKey
	Network      string // complete, with LabSuffix
	Lab          bool
	Listen       []string // multiaddrs
	Reachability string
	NoUPnP       bool
	Limits       relay.Limits // the relay's, for the resource manager
	Log          *slog.Logger

	window uint32 // tests only: bytes of a stream's receive window, for ever; 0 is the multiplexer's own, and more as it grows
	auto   bool   // tests only: Reachability is Auto, also with Lab
}

func newTransport(c hostConfig) (*transport, error) {
	hideLibraryLogs(c.Log)
	t := &transport{
		key: c.Key, network: c.Network, protocols: protocolsFor(c.Network),
		policy: view.Policy{Lab: c.Lab},
	}
	copy(t.id[:], c.Key.Public().(ed25519.PublicKey))
	t.gater = newGater(t.policy)
	if err := t.reach.init(c.Reachability, c.Lab && !c.auto); err != nil {
		return nil, err
	}
	key, err := crypto.UnmarshalEd25519PrivateKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	limits, err := newLimits(t.protocols, c.Limits, c.Lab)
	if err != nil {
		return nil, err
	}
	conns, err := connmgr.NewConnManager(96, 192, connmgr.WithGracePeriod(time.Minute))
	if err != nil {
		limits.Close()
		return nil, fmt.Errorf("connection manager: %w", err)
	}
	opts := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.NoListenAddrs, // below: a failure in New would leave goroutines behind
		libp2p.NoTransports,
		libp2p.Transport(newTCP),
		libp2p.Security(libp2ptls.ID, newSecurity),
		libp2p.Muxer(mux.ID, mux.Multiplexer{Window: c.window}),
		libp2p.ResourceManager(limits),
		libp2p.ConnectionManager(conns),
		libp2p.ConnectionGater(t.gater),
		libp2p.UserAgent(agentName),
		libp2p.ProtocolVersion(protocolVersion),
		libp2p.Ping(false),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.AddrsFactory(t.told),
		libp2p.MultiaddrResolver(noNames{}),
		libp2p.WithDialTimeout(dialTimeout),
	}
	// No hole punching (DCUtR): it hands each side's address to the other, and
	// needs a third node that passes libp2p's own relay traffic between both. Of
	// two adjacent hops one can always be dialled, so nothing here needs it; two
	// nodes that nobody can dial must never exchange a packet.
	if c.Lab { // its addresses are not public; nobody is asked about them
		opts = append(opts, libp2p.NonPublicAddrPublishing(true), libp2p.DisableIdentifyAddressDiscovery())
	} else {
		opts = append(opts, libp2p.EnableAutoNATv2())
		if !c.NoUPnP {
			opts = append(opts, libp2p.NATManager(newNAT))
		}
	}
	switch t.reach.mode {
	case Public:
		opts = append(opts, libp2p.ForceReachabilityPublic())
	case Private:
		opts = append(opts, libp2p.ForceReachabilityPrivate())
	}
	t.Host, err = libp2p.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("start transport: %w", err)
	}
	for _, p := range t.protocols.all() {
		t.SetStreamHandler(p, t.intake.handle)
	}
	if err := t.listen(c.Listen); err != nil { // after the handlers: nobody sees a part of them
		t.Host.Close()
		return nil, err
	}
	return t, nil
}

// listen waits for connections, unless nobody is to dial this node: who tries
// its ports then learns nothing.
func (t *transport) listen(addrs []string) error {
	listen := make([]ma.Multiaddr, 0, len(addrs))
	for _, s := range addrs {
		m, err := ma.NewMultiaddr(s)
		if err != nil {
			return errors.New("listen: not a multiaddr")
		}
		listen = append(listen, m)
	}
	if t.reach.mode == Private {
		return nil
	}
	if err := t.Network().Listen(listen...); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

// Close ends all connections and waits for the streams that were served.
func (t *transport) Close() error {
	t.intake.close()
	err := t.Host.Close()
	t.intake.wg.Wait()
	if err != nil {
		return errors.New("close transport") // its text may name addresses
	}
	return nil
}

// intake hands incoming streams to whoever serves their protocol. It is there
// from the start, so that what identify tells never changes; before and after
// somebody serves, streams are reset.
type intake struct {
	mu     sync.Mutex
	serve  map[protocol.ID]func(network.Stream) // guarded by mu
	closed bool                                 // guarded by mu
	wg     sync.WaitGroup
}

// set lets f serve p's streams from now on, each in a goroutine of its own.
func (i *intake) set(p protocol.ID, f func(network.Stream)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.serve == nil {
		i.serve = make(map[protocol.ID]func(network.Stream))
	}
	i.serve[p] = f
}

func (i *intake) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
}

func (i *intake) handle(s network.Stream) {
	i.mu.Lock()
	f := i.serve[s.Protocol()]
	if f == nil || i.closed {
		i.mu.Unlock()
		s.Reset()
		return
	}
	i.wg.Add(1)
	i.mu.Unlock()
	defer i.wg.Done()
	f(s)
}

// told is what identify and the DHT tell about this node's addresses: what
// dialling it needs, and nothing unless it is known that it can be dialled.
func (t *transport) told(addrs []ma.Multiaddr) []ma.Multiaddr {
	if !t.reach.public() {
		return nil
	}
	return told(t.policy, addrs)
}

// candidates are the addresses at which this node might be dialled, tried or
// not.
func (t *transport) candidates() []ma.Multiaddr {
	all, ok := t.Host.(interface{ AllAddrs() []ma.Multiaddr })
	if !ok || t.reach.mode == Private {
		return nil
	}
	return told(t.policy, all.AllAddrs())
}

// addrs returns the addresses for the own descriptor, none while this node
// cannot be dialled.
func (t *transport) addrs() []netip.AddrPort {
	if !t.reach.public() {
		return nil
	}
	var out []netip.AddrPort
	for _, m := range t.Addrs() {
		if a, ok := addrPortOf(m); ok {
			out = append(out, a)
		}
	}
	return view.OneHome(out)
}

// fullAddrs returns the own addresses with the peer ID, for the user who gives
// them to others as a bootstrap. They may not have been tried yet.
func (t *transport) fullAddrs() []string {
	at := t.candidates()
	if len(at) == 0 {
		return nil // not the bare peer ID
	}
	ms, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: t.ID(), Addrs: at})
	if err != nil {
		return nil
	}
	out := make([]string, 0, len(ms))
	for _, m := range ms {
		out = append(out, m.String())
	}
	return out
}

// subscribe returns the events that change what this node tells about itself
// or learns of others.
func (t *transport) subscribe() (event.Subscription, error) {
	return t.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtHostReachableAddrsChanged),
		new(event.EvtLocalAddressesUpdated),
		new(event.EvtPeerConnectednessChanged),
	}, eventbus.BufSize(256))
}
