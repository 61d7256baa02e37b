package node

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"go.uber.org/goleak"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(bareEnv); role != "" {
		os.Exit(runBare(role))
	}
	if how := os.Getenv(crowdEnv); how != "" {
		os.Exit(runCrowd(how))
	}
	goleak.VerifyTestMain(cleaning{m},
		// The libraries start these once a process and never end them.
		goleak.IgnoreTopFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"),
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
	)
}

// echoRelay is a server whose circuits echo.
type echoRelay struct{}

func (echoRelay) Onion() (*wire.PublicKey, time.Time) {
	return &wire.PublicKey{1}, time.Now().Add(wire.OnionTurn)
}
func (e echoRelay) Serve(l relay.Link) {
	io.Copy(l, l)
	l.Close()
}

type echoStore struct{}

func (echoStore) Answer(_ context.Context, _ wire.NodeID, req []byte) ([]byte, error) {
	if string(req) == "refuse" {
		return nil, fmt.Errorf("refused")
	}
	return append([]byte("re: "), req...), nil
}

// echoFar is echoStore at a path's far end.
type echoFar struct{}

func (echoFar) Answer(ctx context.Context, req []byte) ([]byte, error) {
	return echoStore{}.Answer(ctx, wire.NodeID{}, req)
}

func labConfig(t *testing.T) meshConfig {
	key, err := loadIdentity("", true)
	if err != nil {
		t.Fatal(err)
	}
	return meshConfig{hostConfig: hostConfig{
		Key: key, Network: networkName("test", true), Lab: true, Listen: []string{"/ip4/127.0.0.1/tcp/0"},
	}}
}

func startMesh(t *testing.T, c meshConfig) *mesh {
	t.Helper()
	m, err := newMesh(c)
	if err != nil {
		t.Fatal(err)
	}
	m.serve(echoRelay{}, echoStore{})
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// startMeshes starts n nodes that all know the first one.
func startMeshes(t *testing.T, n int) []*mesh {
	t.Helper()
	ms := []*mesh{startMesh(t, labConfig(t))}
	for range n - 1 {
		c := labConfig(t)
		c.Bootstrap = ms[0].t.fullAddrs()
		ms = append(ms, startMesh(t, c))
	}
	return ms
}

// waitFor waits for cond by m's view changing.
func waitFor(t *testing.T, m *mesh, d time.Duration, what string, cond func() bool) {
	t.Helper()
	timeout := time.After(d)
	for {
		changed := m.view.Wait()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited %v for %s", d, what)
		}
	}
}

func TestTwelveNodesKnowEachOther(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	ms := startMeshes(t, 12)
	t.Logf("started after %v", time.Since(begin))
	begin = time.Now()
	var wg sync.WaitGroup
	for _, m := range ms {
		wg.Go(func() {
			waitFor(t, m, patience, "11 relays", func() bool { return len(m.view.Usable()) == 11 })
		})
	}
	wg.Wait()
	t.Logf("all know all after %v", time.Since(begin)) // half a second on an idle machine
	for _, m := range ms {
		near, err := m.router.Nearest(t.Context(), [32]byte{7}, 8)
		if err != nil || len(near) != 8 {
			t.Fatalf("got %d super nodes and error %v, want 8", len(near), err)
		}
		first, _ := ms[0].router.Nearest(t.Context(), [32]byte{7}, 8)
		if fmt.Sprintf("%x", near) != fmt.Sprintf("%x", first) {
			t.Error("two nodes disagree about who is nearest")
		}
		ans, err := m.router.Ask(t.Context(), near[0], []byte("hello"))
		if err != nil || string(ans) != "re: hello" {
			t.Errorf("got answer %q and error %v", ans, err)
		}
		if _, err := m.chooser.path(3, true); err != nil {
			t.Error(err)
		}
	}
	if _, err := ms[1].router.Ask(t.Context(), ms[2].t.id, []byte("refuse")); err == nil {
		t.Error("got no error from a refusing super node")
	}
}

// Walks begin in both halves of the ring and find everybody; from a single
// peer none begins.
func TestWalks(t *testing.T) {
	t.Parallel()
	for half := range byte(2) {
		for range 20 {
			if sum := sha256.Sum256(keyIn(half)); sum[0]>>7 != half {
				t.Fatalf("a key of the other half than %d", half)
			}
		}
	}
	ms := startMeshes(t, 5)
	waitFor(t, ms[1], patience, "4 relays", func() bool { return len(ms[1].view.Usable()) == 4 })
	eventually(t, patience, "a walk", func() bool { return len(walks(t.Context(), ms[1].dht)) >= 4 })
	lone := startMesh(t, labConfig(t))
	if got := walks(t.Context(), lone.dht); got != nil {
		t.Errorf("a node that knows nobody found %d peers", len(got))
	}
}

// A relay that goes without a word is known to be gone within seconds.
func TestLostRelayIsNoticed(t *testing.T) {
	t.Parallel()
	ms := startMeshes(t, 4)
	waitFor(t, ms[1], patience, "3 relays", func() bool { return len(ms[1].view.Usable()) == 3 })
	gone := ms[3].t.id
	ms[3].Close()
	begin := time.Now()
	eventually(t, patience, "a relay to be missed", func() bool {
		_, ok := usable(ms[1].view, gone)
		return !ok
	})
	t.Logf("missed after %v", time.Since(begin))
}

// So is one that goes while it is asked something: what was visited just now
// is not left alone for that.
func TestLossDuringAVisitIsNoticed(t *testing.T) {
	t.Parallel()
	ms := startMeshes(t, 4)
	waitFor(t, ms[1], patience, "3 relays", func() bool { return len(ms[1].view.Usable()) == 3 })
	d, dies := ms[1].discovery, ms[3].t
	asked, gone := make(chan struct{}, 1), make(chan struct{})
	dies.intake.set(dies.protocols.descriptors, func(s network.Stream) {
		defer s.Reset()
		signal(asked)
		<-gone
	})
	d.mu.Lock()
	delete(d.asked, dies.ID())
	d.mu.Unlock()
	d.enqueue(dies.ID())
	<-asked
	err := dies.Host.Close()
	close(gone)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, askAgain*3/4, "the relay to be missed", func() bool {
		_, ok := usable(ms[1].view, dies.id)
		return !ok
	})
}

func TestLink(t *testing.T) {
	ms := startMeshes(t, 2)
	waitFor(t, ms[1], patience, "a relay", func() bool { return len(ms[1].view.Usable()) == 1 })
	d := ms[1].view.Usable()[0]
	l, err := neighbours{ms[1].t}.Dial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if l.Peer() != ms[0].t.id {
		t.Error("link to somebody else")
	}
	if _, err := l.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 3)
	if _, err := io.ReadFull(l, got); err != nil || string(got) != "abc" {
		t.Fatalf("got %q, %v", got, err)
	}
	l.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := l.Read(got); err == nil || !isTimeout(err) {
		t.Errorf("got %v, want a timeout", err)
	}
	l.Reset()
	l.Reset()
	if _, err := l.Write([]byte("abc")); err != errBroken {
		t.Errorf("got %v, want errBroken", err)
	}

	// A descriptor that names another node's address: TLS refuses.
	other := labConfig(t)
	bad := wire.Descriptor{Onion: d.Onion, Issued: time.Now(), Expires: time.Now().Add(time.Hour), Addrs: d.Addrs}
	bad.Sign(other.Key, ms[0].t.network)
	if _, err := (neighbours{ms[1].t}).Dial(t.Context(), bad); err == nil {
		t.Error("dialled a node that is not there")
	}
}

func isTimeout(err error) bool {
	te, ok := err.(interface{ Timeout() bool })
	return ok && te.Timeout()
}

// A dial for a descriptor uses the addresses that it signs, though others are
// known.
func TestDialOnlyWhatIsSigned(t *testing.T) {
	a, b := startMesh(t, labConfig(t)), startMesh(t, labConfig(t))
	own, _ := b.self.get()
	wrong := own
	wrong.Addrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}
	a.t.Peerstore().AddAddrs(b.t.ID(), b.t.Addrs(), time.Hour)
	if err := a.t.connect(t.Context(), wrong); err == nil {
		t.Error("connected at an address that the descriptor does not name")
	}
	if got := a.t.Network().Connectedness(b.t.ID()); got == network.Connected {
		t.Errorf("got %v", got)
	}
}

func TestPrivateNodeTellsNothing(t *testing.T) {
	pub := startMesh(t, labConfig(t))
	c := labConfig(t)
	c.Reachability = Private
	c.Bootstrap = pub.t.fullAddrs()
	m := startMesh(t, c)
	waitFor(t, m, patience, "a relay", func() bool { return len(m.view.Usable()) == 1 })
	if _, ok := m.self.get(); ok {
		t.Error("an undialable node has a descriptor")
	}
	if n, _ := pub.view.Count(); n != 0 {
		t.Errorf("got %d relays, want 0", n)
	}
	if got := pub.t.Peerstore().Addrs(m.t.ID()); len(got) > 1 {
		t.Errorf("%d addresses of an undialable node are known", len(got))
	}
	// It is reached over the connection that it holds, and asks as others do.
	if ans, err := m.router.Ask(t.Context(), pub.t.id, []byte("x")); err != nil || string(ans) != "re: x" {
		t.Errorf("got %q, %v", ans, err)
	}
}
