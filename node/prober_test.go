package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	idpb "github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"
)

// prober is a libp2p host that asks its peers for all that they tell, in bytes
// of its own making: what a library would not show is seen, too.
type prober struct {
	host.Host
	t      *testing.T
	protos protocols

	mu     sync.Mutex
	pushes map[peer.ID][][]byte // guarded by mu
}

func newProber(t *testing.T) *prober {
	t.Helper()
	h, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(libp2pquic.NewTransport),
		libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	p := &prober{Host: h, t: t, protos: protocolsFor(networkName("test", true)), pushes: make(map[peer.ID][][]byte)}
	h.SetStreamHandler(identify.IDPush, func(s network.Stream) {
		b, _ := io.ReadAll(io.LimitReader(s, 1<<16))
		s.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pushes[s.Conn().RemotePeer()] = append(p.pushes[s.Conn().RemotePeer()], b)
	})
	return p
}

// addr is where a node is told to look for the prober.
func (p *prober) addr() string { return p.Addrs()[0].String() + "/p2p/" + p.ID().String() }

func (p *prober) pushed(id peer.ID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pushes[id])
}

// stream opens a stream and negotiates name on it by hand. refused says that
// the peer does not know name; one that does may reset the stream at once.
func (p *prober) stream(to peer.ID, name string) (s network.Stream, refused bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	conns := p.Host.Network().ConnsToPeer(to)
	if len(conns) == 0 {
		p.t.Fatal("no connection to the node")
	}
	s, err := conns[0].NewStream(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(20 * time.Second))
	answer := negotiate(s, name)
	if answer != name {
		s.Reset()
		return nil, answer == "na"
	}
	return s, false
}

// negotiate speaks multistream-select: every message is a length, a line and
// its end. It returns the peer's answer to name.
func negotiate(rw io.ReadWriter, name string) (answer string) {
	const head = "/multistream/1.0.0"
	var out []byte
	for _, line := range []string{head, name} {
		out = binary.AppendUvarint(out, uint64(len(line)+1))
		out = append(out, line+"\n"...)
	}
	if _, err := rw.Write(out); err != nil {
		return ""
	}
	for range 2 {
		var n [1]byte
		if _, err := io.ReadFull(rw, n[:]); err != nil || n[0] > 127 {
			return ""
		}
		line := make([]byte, n[0])
		if _, err := io.ReadFull(rw, line); err != nil {
			return ""
		}
		answer = strings.TrimSuffix(string(line), "\n")
	}
	return answer
}

// ask sends one message and returns what comes back, in a word: silence is a
// stream that the peer resets or closes without an answer.
func (p *prober) ask(to peer.ID, name string, msg []byte) (answer []byte, how string) {
	s, refused := p.stream(to, name)
	switch {
	case refused:
		return nil, "unknown"
	case s == nil:
		return nil, "reset"
	}
	defer s.Reset()
	if _, err := s.Write(msg); err != nil {
		return nil, "reset"
	}
	s.CloseWrite()
	b, err := io.ReadAll(io.LimitReader(s, 1<<20))
	switch {
	case errors.Is(err, network.ErrReset):
		how = "reset"
	case err != nil:
		how = "no answer"
	case len(b) == 0:
		how = "closed"
	default:
		how = "answer"
	}
	return b, how
}

// wellKnown are protocols of libp2p, IPFS and others that a node might speak
// by mistake.
var wellKnown = []string{
	"/ipfs/ping/1.0.0", "/libp2p/circuit/relay/0.1.0", "/libp2p/circuit/relay/0.2.0/hop", "/libp2p/circuit/relay/0.2.0/stop",
	"/libp2p/autonat/1.0.0", "/libp2p/autonat/2/dial-request", "/libp2p/autonat/2/dial-back", "/libp2p/dcutr",
	"/p2p/id/delta/1.0.0", "/ipfs/id/delta/1.0.0", "/ipfs/bitswap", "/ipfs/bitswap/1.0.0", "/ipfs/bitswap/1.1.0", "/ipfs/bitswap/1.2.0",
	"/meshsub/1.0.0", "/meshsub/1.1.0", "/meshsub/1.2.0", "/floodsub/1.0.0", "/rendezvous/1.0.0", "/libp2p/fetch/0.0.1",
	"/ipfs/kad/1.0.0", "/ipfs/lan/kad/1.0.0", "/libp2p/http/1.1", "/http/1.1", "/x/", "ls", "/mplex/6.7.0", "/yamux/1.0.0",
	"/libp2p/simple-open/1.0.0", "/perf/1.0.0", "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0",
}

// learned is all that a connected peer learns by asking, with what differs by
// chance (ports, keys) put into words.
type learned struct {
	Agent, Version string
	Protocols      []string
	Addrs          []string          // in identify
	Record         []string          // addresses in the signed record
	Observed       string            // what the node says of the prober's address
	Unknown        []string          // fields of identify that nobody knows here
	Known          []string          // of wellKnown and a few more
	Messages       map[string]string // what own protocols answer
	Routing        map[string]string // what the DHT answers
	Pushes         int
}

// probe asks a connected node for everything. own are the node's addresses,
// relays those that anybody may be told, others peers that nobody may.
func (p *prober) probe(to peer.ID, own []string, relays map[peer.ID][]string, others map[string]peer.ID) learned {
	p.t.Helper()
	l := learned{Messages: map[string]string{}, Routing: map[string]string{}}
	raw, how := p.ask(to, identify.ID, nil)
	if how != "answer" {
		p.t.Fatalf("identify: %s", how)
	}
	p.readIdentify(&l, to, raw, own)
	for _, name := range wellKnown {
		s, refused := p.stream(to, name)
		if !refused {
			l.Known = append(l.Known, name)
		}
		if s != nil {
			s.Reset()
		}
	}
	slices.Sort(l.Known)

	ask := appendExchange(nil, exchange{kind: kindAsk})
	b, how := p.ask(to, string(p.protos.descriptors), ask)
	if how == "answer" {
		how = p.describe(to, b, relays)
	}
	l.Messages["descriptors: ask"] = how
	_, l.Messages["descriptors: nonsense"] = p.ask(to, string(p.protos.descriptors), bytes.Repeat([]byte{0xff}, 64))
	_, l.Messages["index: nonsense"] = p.ask(to, string(p.protos.index), bytes.Repeat([]byte{0xff}, 64))
	_, l.Messages["relay: nonsense"] = p.ask(to, string(p.protos.relay), make([]byte, 64))

	targets := map[string]peer.ID{"the node": to, "the asker": p.ID(), "a key": peer.ID(bytes.Repeat([]byte{7}, 34))}
	for what, id := range others {
		targets[what] = id
	}
	for what, id := range targets {
		m := dhtpb.NewMessage(dhtpb.Message_FIND_NODE, []byte(id), 0)
		l.Routing["FIND_NODE "+what] = p.route(to, m, relays)
	}
	key := []byte("/v/some key")
	for what, m := range map[string]*dhtpb.Message{
		"GET_VALUE":     dhtpb.NewMessage(dhtpb.Message_GET_VALUE, key, 0),
		"GET_VALUE pk":  dhtpb.NewMessage(dhtpb.Message_GET_VALUE, []byte("/pk/"+string(to)), 0),
		"GET_PROVIDERS": dhtpb.NewMessage(dhtpb.Message_GET_PROVIDERS, key, 0),
		"PING":          dhtpb.NewMessage(dhtpb.Message_PING, nil, 0),
	} {
		l.Routing[what] = p.route(to, m, relays)
	}
	put := dhtpb.NewMessage(dhtpb.Message_PUT_VALUE, key, 0)
	put.Record = &recpb.Record{Key: key, Value: []byte("x")}
	l.Routing["PUT_VALUE"] = p.route(to, put, relays)
	add := dhtpb.NewMessage(dhtpb.Message_ADD_PROVIDER, key, 0)
	add.ProviderPeers = dhtpb.RawPeerInfosToPBPeers([]peer.AddrInfo{{ID: p.ID(), Addrs: p.Addrs()}})
	l.Routing["ADD_PROVIDER"] = p.route(to, add, relays)
	l.Pushes = p.pushed(to)
	return l
}

func (p *prober) readIdentify(l *learned, to peer.ID, raw []byte, own []string) {
	p.t.Helper()
	var m idpb.Identify
	for len(raw) > 0 { // it comes in parts
		n, k := binary.Uvarint(raw)
		if k <= 0 || n > uint64(len(raw)-k) {
			p.t.Fatal("identify: no message")
		}
		if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(raw[k:k+int(n)], &m); err != nil {
			p.t.Fatal(err)
		}
		raw = raw[k+int(n):]
	}
	l.Agent, l.Version = m.GetAgentVersion(), m.GetProtocolVersion()
	l.Protocols = slices.Sorted(slices.Values(m.GetProtocols()))
	if u := m.ProtoReflect().GetUnknown(); len(u) > 0 {
		l.Unknown = append(l.Unknown, fmt.Sprintf("%d bytes", len(u)))
	}
	word := func(b []byte) string {
		a, err := ma.NewMultiaddrBytes(b)
		switch {
		case err != nil:
			return "no address"
		case slices.Contains(own, a.String()):
			return "where it listens"
		}
		return "another: " + protocolNames(a)
	}
	for _, b := range m.GetListenAddrs() {
		l.Addrs = append(l.Addrs, word(b))
	}
	var rec peer.PeerRecord
	if b := m.GetSignedPeerRecord(); len(b) == 0 {
		l.Record = nil
	} else if _, err := record.ConsumeTypedEnvelope(b, &rec); err != nil || rec.PeerID != to {
		p.t.Fatalf("signed record of another peer, error %v", err)
	}
	for _, a := range rec.Addrs {
		l.Record = append(l.Record, word(a.Bytes()))
	}
	l.Observed = "nothing"
	if b := m.GetObservedAddr(); len(b) > 0 {
		a, err := ma.NewMultiaddrBytes(b)
		l.Observed = "another address"
		if err == nil && a.Equal(p.Host.Network().ConnsToPeer(to)[0].LocalMultiaddr()) {
			l.Observed = "the asker's own address"
		}
	}
}

// describe tells what an answer about relays holds.
func (p *prober) describe(to peer.ID, b []byte, relays map[peer.ID][]string) string {
	e, err := readExchange(bytes.NewReader(b))
	if err != nil {
		return "bad answer"
	}
	self := "without its own"
	for _, d := range e.ds {
		id, err := peerOf(d.Node)
		if err != nil {
			return "bad answer"
		}
		if id == to {
			self = "with its own"
		}
		for _, a := range d.Addrs {
			if !slices.Contains(relays[id], multiaddrOf(a).String()) {
				return "the address of somebody who does not relay"
			}
		}
	}
	return "relays, " + self
}

// route sends one message of the DHT and tells what the answer holds.
func (p *prober) route(to peer.ID, m *dhtpb.Message, relays map[peer.ID][]string) string {
	p.t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		p.t.Fatal(err)
	}
	ans, how := p.ask(to, string(p.protos.dht+kadSuffix), append(binary.AppendUvarint(nil, uint64(len(b))), b...))
	if how != "answer" {
		return how
	}
	n, k := binary.Uvarint(ans)
	var got dhtpb.Message
	if k <= 0 || int(n) != len(ans)-k || proto.Unmarshal(ans[k:], &got) != nil {
		return "bad answer"
	}
	if len(got.ProviderPeers) > 0 || got.Record != nil {
		return "values"
	}
	for _, c := range got.CloserPeers {
		id := peer.ID(c.Id)
		if c.Connection != dhtpb.Message_NOT_CONNECTED {
			return "whom it is connected to"
		}
		for _, a := range c.Addresses() {
			if !slices.Contains(relays[id], a.String()) {
				return "an address that its owner does not give away"
			}
		}
		if _, ok := relays[id]; !ok {
			return "a peer that does not relay"
		}
	}
	if m.Type == dhtpb.Message_FIND_NODE {
		return "relays, at the addresses that they sign"
	}
	return "an empty answer"
}

// transports tells which transports, security protocols and muxers a node that
// listens at a speaks.
func (p *prober) transports(to peer.ID, a string) []string {
	p.t.Helper()
	m := ma.StringCast(a)
	at, ok := addrPortOf(m)
	if !ok {
		p.t.Fatal("not an address to dial")
	}
	var out []string
	for _, sec := range []string{"/noise", "/tls/1.0.0", "/plaintext/2.0.0", "/secio/1.0.0", "/pnet", "GET / HTTP/1.1"} {
		c, err := net.DialTimeout("tcp", at.String(), 10*time.Second)
		if err != nil {
			p.t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if negotiate(c, sec) != "na" {
			out = append(out, sec)
		}
		c.Close()
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	q := ma.StringCast(strings.Replace(a, "/tcp/", "/udp/", 1) + "/quic-v1")
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.Transport(libp2pquic.NewTransport), libp2p.DisableMetrics(),
		libp2p.WithDialTimeout(2*time.Second), libp2p.DisableRelay())
	if err != nil {
		p.t.Fatal(err)
	}
	defer h.Close()
	h.Peerstore().AddAddr(to, q, peerstore.TempAddrTTL)
	if h.Connect(ctx, peer.AddrInfo{ID: to}) == nil {
		out = append(out, "quic")
	}
	return out
}

// relaysOf lists who may be told to anybody, with the addresses.
func relaysOf(nodes ...*Node) map[peer.ID][]string {
	out := map[peer.ID][]string{}
	for _, n := range nodes {
		d, ok := n.mesh.self.get()
		if !ok {
			continue
		}
		var as []string
		for _, a := range d.Addrs {
			as = append(as, multiaddrOf(a).String())
		}
		out[n.mesh.t.ID()] = as
	}
	return out
}
