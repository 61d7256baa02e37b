package node

import (
	"bytes"
	"crypto/rand"
	"io"
	stdlog "log"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/prometheus/client_golang/prometheus"

	"wanderfs/cache/chunk"
)

// A connected peer learns the same few things from every node, whatever it
// does for its user, and nothing at all about those who cannot be dialled.
func TestWhatAPeerLearns(t *testing.T) {
	p := newProber(t)
	first := labNode(t, nil, nil)
	boot := first.Status().Addrs
	relays := []*Node{first}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 7 {
		wg.Go(func() {
			n := labNode(t, boot, nil)
			mu.Lock()
			defer mu.Unlock()
			relays = append(relays, n)
		})
	}
	wg.Wait()
	// All that cannot be dialled reach the prober by themselves.
	hidden := func(c *Config) { c.Reachability, c.Bootstrap = Private, append(c.Bootstrap, p.addr()) }
	pub, reader := labNode(t, boot, nil), labNode(t, boot, nil)
	quiet := labNode(t, boot, hidden)
	quietReader := labNode(t, boot, hidden)
	own := labNode(t, boot, func(c *Config) { hidden(c); c.NoRelay = true })
	roles := map[string]*Node{"relay": first, "publisher": pub, "reader": reader, "undialable publisher": quiet, "undialable reader": quietReader, "no-relay": own}
	for what, n := range roles {
		id := n.mesh.t.ID()
		if n.mesh.t.reach.public() {
			d, _ := n.mesh.self.get()
			if err := p.Connect(t.Context(), peer.AddrInfo{ID: id, Addrs: n.mesh.t.candidates()}); err != nil || len(d.Addrs) == 0 {
				t.Fatalf("%s: not connected: %v", what, err)
			}
		}
		eventually(t, patience, what+" to be ready and connected", func() bool {
			return n.Status().Ready && p.Host.Network().Connectedness(id) == network.Connected
		})
	}
	told := relaysOf(append(relays, pub, reader)...)
	eventually(t, patience, "all to be met", func() bool {
		for _, n := range append([]*Node{pub, reader, quiet, quietReader, own}, relays...) {
			if _, met := n.mesh.view.Count(); met < len(told)-1 {
				return false
			}
		}
		return true
	})
	probe := func(n *Node) learned {
		id := n.mesh.t.ID()
		return p.probe(id, told[id], told, map[string]peer.ID{
			"an undialable publisher": quiet.mesh.t.ID(), "an undialable reader": quietReader.mesh.t.ID(), "a no-relay node": own.mesh.t.ID(),
		})
	}
	before := map[string]learned{}
	for what, n := range roles {
		before[what] = probe(n)
	}
	for what, n := range roles {
		want := before["relay"]
		if !n.mesh.t.reach.public() {
			want = before["undialable reader"]
		}
		if what == "no-relay" {
			continue // the golden file shows where it differs
		}
		if !reflect.DeepEqual(before[what], want) {
			t.Errorf("an idle %s differs:\ngot  %+v\nwant %+v", what, before[what], want)
		}
	}

	// Both publish, both search and read; the prober looks meanwhile.
	busy, stop := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-busy }()
	shared := map[*Node]string{pub: "Blue Whale.bin", quiet: "Grey Whale.bin"}
	var refs []chunk.Ref
	content := make([]byte, 2<<20)
	rand.Read(content)
	for n, name := range shared {
		content[0]++
		if err := os.WriteFile(filepath.Join(n.Share().Dir(), name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, patience, name+" to be published", func() bool { return n.Share().State(name).Phase == "published" })
		refs = append(refs, n.Share().State(name).Ref)
	}
	read := make(chan error, 2)
	go func() {
		defer close(busy)
		for round := 0; ; round++ {
			for _, n := range []*Node{reader, quietReader} {
				_, err := readAll(t.Context(), n, refs[round%len(refs)])
				if r, serr := n.Search(t.Context(), "whale"); serr == nil {
					r.Close()
				}
				if round == 0 {
					read <- err
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	for range 2 {
		if err := <-read; err != nil {
			t.Fatal(err)
		}
	}
	for what, n := range roles {
		if after := probe(n); !reflect.DeepEqual(after, before[what]) {
			t.Errorf("a %s differs at work:\ngot  %+v\nwant %+v", what, after, before[what])
		}
	}
	golden(t, "learned.json", map[string]any{
		"a node that can be dialled": before["relay"],
		"one that cannot":            before["undialable reader"],
		"one with --no-relay":        before["no-relay"],
		"transports":                 p.transports(first.mesh.t.ID(), told[first.mesh.t.ID()][0]),
	})
	for _, n := range []*Node{quiet, own} {
		if as := n.mesh.t.Network().ListenAddresses(); len(as) != 0 {
			t.Error("a node that nobody dials listens")
		}
	}

	// The comparison sees what it is there for.
	ping.NewPingService(first.mesh.t.Host)
	if reflect.DeepEqual(probe(first), before["relay"]) {
		t.Error("the prober does not see ping")
	}
}

// No library counts anything, but how many events of each kind passed inside
// libp2p's host: DisableMetrics leaves that on. Nothing shows it to anybody.
func TestNoMetrics(t *testing.T) {
	startMeshes(t, 2)
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		name := f.GetName()
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		if !strings.HasPrefix(name, "libp2p_eventbus_") {
			t.Errorf("a metric %s", name)
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetValue(), "12D3") || strings.Contains(l.GetValue(), "127.0.0.1") {
					t.Errorf("%s names somebody", name)
				}
			}
		}
	}
}

// kad-dht logs through go-log, what asks routers for ports through the
// standard library: both write nowhere.
func TestOtherLibrariesAreSilent(t *testing.T) {
	startMesh(t, labConfig(t))
	old := os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = w
	if stdlog.Writer() != io.Discard {
		t.Error("the standard library's log is open")
	}
	early := golog.Logger("dht")
	early.Error("a peer and its address")
	golog.Logger("later").Errorw("again", "peer", "x")
	stdlog.Print("a router's address")
	os.Stderr = old
	w.Close()
	var out bytes.Buffer
	if _, err := out.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 0 {
		t.Errorf("got %q", out.String())
	}
}
