package node

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"wanderfs/node/view"
	"wanderfs/node/view/viewtest"
	"wanderfs/relay/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestAddrPolicy(t *testing.T) {
	for _, c := range []struct {
		ip          string
		lab, public bool
	}{
		{"127.0.0.1", true, false}, {"::1", true, false}, {"10.1.2.3", true, false}, {"192.168.0.1", true, false},
		{"fd00::1", true, false}, {"::ffff:10.0.0.1", true, false},
		{"8.8.8.8", false, true}, {"2a00:1450::1", false, true},
		{"0.0.0.0", false, false}, {"::", false, false}, {"169.254.1.1", false, false}, {"fe80::1", false, false},
		{"224.0.0.1", false, false}, {"100.64.0.1", false, false}, {"192.0.2.1", false, false}, {"255.255.255.255", false, false},
		{"2001:db8::1", false, false}, {"2002:a00::1", false, false}, {"64:ff9b::a00:1", false, false},
	} {
		ip := netip.MustParseAddr(c.ip)
		if got := (view.Policy{Lab: true}).Allows(ip); got != c.lab {
			t.Errorf("lab %s: got %v, want %v", c.ip, got, c.lab)
		}
		if got := (view.Policy{}).Allows(ip); got != c.public {
			t.Errorf("normal %s: got %v, want %v", c.ip, got, c.public)
		}
	}
}

type connAddrs struct{ remote ma.Multiaddr }

func (c connAddrs) LocalMultiaddr() ma.Multiaddr  { return nil }
func (c connAddrs) RemoteMultiaddr() ma.Multiaddr { return c.remote }

func TestGater(t *testing.T) {
	id, _ := peerOf(viewtest.Relay(1, "10.1.0.1:1", 0, time.Now()).Node)
	for _, c := range []struct {
		addr        string
		lab, normal bool
	}{
		{"/ip4/127.0.0.1/tcp/4001", true, false}, {"/ip4/10.0.0.1/tcp/4001", true, false}, {"/ip4/9.9.9.9/tcp/4001", false, true},
		{"/ip4/9.9.9.9/udp/4001/quic-v1", false, false}, {"/dns4/localhost/tcp/4001", false, false},
		{"/ip4/10.0.0.1/tcp/4001/ws", false, false},
	} {
		m := ma.StringCast(c.addr)
		for _, lab := range []bool{true, false} {
			want := c.normal
			if lab {
				want = c.lab
			}
			g := newGater(view.Policy{Lab: lab})
			if got := g.InterceptAddrDial(id, m); got != want {
				t.Errorf("lab %v dial %s: got %v, want %v", lab, c.addr, got, want)
			}
			if got := g.InterceptAccept(connAddrs{m}); got != want {
				t.Errorf("lab %v accept %s: got %v, want %v", lab, c.addr, got, want)
			}
		}
	}
	g := newGater(view.Policy{Lab: true})
	one, two := ma.StringCast("/ip4/10.0.0.1/tcp/1"), ma.StringCast("/ip4/10.0.0.1/tcp/2")
	release := g.restrict(id, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")})
	if !g.InterceptAddrDial(id, one) || g.InterceptAddrDial(id, two) {
		t.Error("restriction does not hold")
	}
	release()
	if !g.InterceptAddrDial(id, two) || len(g.only) != 0 {
		t.Error("restriction outlived its release")
	}
}

// Identify tells the same few things on every node, from start to end.
func TestIdentifyGolden(t *testing.T) {
	a := startMesh(t, labConfig(t))
	c := labConfig(t)
	c.Bootstrap = a.t.fullAddrs()
	b, err := newMesh(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	sub, err := b.t.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if err := b.start(); err != nil { // serves nothing, as with NoRelay
		t.Fatal(err)
	}
	got := identified{}
	e := (<-sub.Out()).(event.EvtPeerIdentificationCompleted)
	for _, p := range e.Protocols {
		got.Protocols = append(got.Protocols, string(p))
	}
	slices.Sort(got.Protocols)
	got.Agent, got.Version = e.AgentVersion, e.ProtocolVersion
	for _, m := range e.ListenAddrs {
		got.Addrs = append(got.Addrs, protocolNames(m))
	}
	golden(t, "identify.json", got)

	var own []string
	for _, p := range b.t.Mux().Protocols() {
		own = append(own, string(p))
	}
	slices.Sort(own)
	if !slices.Equal(own, got.Protocols) {
		t.Errorf("a node that does not relay differs:\ngot  %v\nwant %v", own, got.Protocols)
	}
}

type identified struct {
	Agent, Version   string
	Protocols, Addrs []string
}

func protocolNames(m ma.Multiaddr) string {
	var out []string
	for _, p := range m.Protocols() {
		out = append(out, p.Name)
	}
	return strings.Join(out, "/")
}

func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestProtocolsGolden(t *testing.T) {
	p := protocolsFor(networkName("", false))
	q := protocolsFor(networkName("x", true))
	golden(t, "protocols.json", []string{
		string(p.relay), string(p.descriptors), string(p.index), string(p.dht), p.mdns,
		string(q.relay), string(q.descriptors), string(q.index), string(q.dht), q.mdns,
	})
}

func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	a, err := loadIdentity(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := loadIdentity(dir, false)
	if err != nil || !a.Equal(b) {
		t.Errorf("another key after a restart, error %v", err)
	}
	c, _ := loadIdentity(dir, true)
	if c.Equal(a) {
		t.Error("the same key, want a fresh one")
	}
	if fi, _ := os.Stat(filepath.Join(dir, keyFile)); fi.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v", fi.Mode())
	}
	id := wire.NodeID(a.Public().(ed25519.PublicKey))
	p, err := peerOf(id)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := nodeOf(p); err != nil || back != id {
		t.Errorf("got another node back, error %v", err)
	}
}

// Outside a laboratory the handlers for finding out reachability come on top,
// for all nodes alike.
func TestPublicProtocolsGolden(t *testing.T) {
	var all [][]string
	for _, reach := range []string{Public, Private} {
		c := labConfig(t)
		c.Lab, c.NoUPnP, c.Reachability = false, true, reach
		m, err := newMesh(c)
		if err != nil {
			t.Fatal(err)
		}
		var own []string
		for _, p := range m.t.Mux().Protocols() {
			own = append(own, string(p))
		}
		slices.Sort(own)
		if addrs := m.t.Addrs(); len(addrs) != 0 {
			t.Errorf("told %d addresses of loopback", len(addrs))
		}
		m.Close()
		all = append(all, own)
	}
	golden(t, "public.json", all)
}

// The port that a node chose stays its own, unless somebody else has it.
func TestPortIsRemembered(t *testing.T) {
	c := labConfig(t)
	c.Listen, c.Dir = nil, t.TempDir()
	port := func(m *mesh) string {
		a, err := m.t.Network().ListenAddresses()[0].ValueForProtocol(ma.P_TCP)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a, err := newMesh(c)
	if err != nil {
		t.Fatal(err)
	}
	first := port(a)
	a.Close()
	b, err := newMesh(c)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got := port(b); got != first {
		t.Errorf("got port %s, want %s", got, first)
	}
	c.Dir = t.TempDir() // the other one is in use
	if err := os.WriteFile(filepath.Join(c.Dir, portFile), []byte(first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := newMesh(c) // the port is taken
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if port(d) == first {
		t.Error("two nodes on a port")
	}
}

func TestPeerBook(t *testing.T) {
	name := filepath.Join(t.TempDir(), peersFile)
	id, _ := peerOf(viewtest.Relay(1, "10.1.0.1:1", 0, time.Now()).Node)
	given := "/ip4/10.1.0.1/tcp/1/p2p/" + id.String()
	b, err := newPeerBook(view.Policy{Lab: true}, []string{given}, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.save(name); err != nil {
		t.Fatal(err)
	}
	b, err = newPeerBook(view.Policy{Lab: true}, nil, name)
	if err != nil || b.empty() || len(b.some(5)) != 1 {
		t.Errorf("not remembered, error %v", err)
	}
	for _, bad := range []string{"", "10.1.0.1:4001", "/ip4/10.1.0.1/tcp/1", "/p2p/" + id.String()} {
		if _, err := newPeerBook(view.Policy{}, []string{bad}, ""); err == nil {
			t.Errorf("took %q", bad)
		}
	}
}

func TestLibraryLogsAreHidden(t *testing.T) {
	var out bytes.Buffer
	h := hidingHandler{to: slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})}
	log := slog.New(h.WithAttrs([]slog.Attr{slog.String("logger", "swarm2")})).With("peer", "12D3KooSecret")
	log.Error("dial to 10.9.8.7 failed", "addr", "10.9.8.7", "peer", peer.ID("secret"))
	got := out.String()
	if strings.Contains(got, "10.9.8.7") || strings.Contains(got, "ecret") || !strings.Contains(got, "swarm2") || !strings.Contains(got, "level=DEBUG") {
		t.Errorf("got %q", got)
	}
}
