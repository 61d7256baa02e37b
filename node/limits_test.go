package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"

	"wanderfs/node/mux"
	"wanderfs/relay"
)

// counted is a server that counts what reaches it.
type counted struct {
	*relay.Relay
	served atomic.Int64
}

func (c *counted) Serve(l relay.Link) {
	c.served.Add(1)
	c.Relay.Serve(l)
}

// TestCircuitsOfOnePair: as many circuits as the relay's limits say fit
// between one pair of nodes, and it is the relay, not the resource manager,
// that refuses the next ones.
func TestCircuitsOfOnePair(t *testing.T) {
	limits := relay.Limits{Creates: rate.Inf, HalfOpen: 1 << 20, HalfOpenPer: 1 << 20, Hello: 5 * time.Minute}
	want := limits.WithDefaults().PerNeighbour
	const more = 100
	c := labConfig(t)
	c.Limits = limits
	m, err := newMesh(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	r, err := relay.New(relay.Config{Identity: c.Key, NetworkName: c.Network, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	serve := &counted{Relay: r}
	m.serve(serve, echoStore{})
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	client := startMesh(t, func() meshConfig {
		c := labConfig(t)
		c.Bootstrap = m.t.fullAddrs()
		return c
	}())
	waitFor(t, client, patience, "a relay", func() bool { return len(client.view.Usable()) == 1 })
	d := client.view.Usable()[0]
	var ended atomic.Int64
	var wg sync.WaitGroup
	var links []relay.Link
	defer func() {
		for _, l := range links {
			l.Reset()
		}
		wg.Wait()
	}()
	for i := range want + more {
		l, err := neighbours{t: client.t}.Dial(t.Context(), d)
		if err != nil {
			t.Fatalf("circuit %d is refused on this side: %v", i, err)
		}
		links = append(links, l)
		if _, err := l.Write([]byte{1}); err != nil { // the stream begins with its first byte
			t.Fatalf("circuit %d: %v", i, err)
		}
		wg.Go(func() {
			l.Read(make([]byte, 1))
			ended.Add(1)
		})
	}
	eventually(t, patience, "all to be served or refused", func() bool {
		return serve.served.Load() == int64(want+more) && ended.Load() == more
	})
	if got := r.Stats().Circuits; got != want {
		t.Errorf("%d circuits, want %d", got, want)
	}
	if got := len(m.t.Network().ConnsToPeer(client.t.ID())); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}

// TestManagerBacksUp: what the relay may hold, the resource manager lets it
// have: all circuits at once, from few neighbours, with their windows.
func TestManagerBacksUp(t *testing.T) {
	l := relay.Limits{}.WithDefaults()
	p := protocolsFor("test")
	rm, err := newLimits(p, l, true)
	if err != nil {
		t.Fatal(err)
	}
	defer rm.Close()
	var done []interface{ Done() }
	defer func() {
		for _, d := range done {
			d.Done()
		}
	}()
	open := func(conn network.ConnManagementScope, id peer.ID, dir network.Direction) {
		t.Helper()
		s, err := rm.OpenStream(id, dir)
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, s)
		if err := s.SetProtocol(p.relay); err != nil {
			t.Fatal(err)
		}
		span, err := conn.BeginSpan()
		if err != nil {
			t.Fatal(err)
		}
		if err := span.ReserveMemory(mux.FirstWindow, network.ReservationPriorityAlways); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < l.Circuits; {
		id := peer.ID(fmt.Sprint("neighbour", n))
		conn, err := rm.OpenConnection(network.DirInbound, true, ma.StringCast("/ip4/10.1.2.3/tcp/1"))
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, conn)
		if err := conn.SetPeer(id); err != nil {
			t.Fatal(err)
		}
		for range min(l.PerNeighbour, l.Circuits-n) {
			open(conn, id, network.DirInbound)
			open(conn, id, network.DirOutbound)
			n++
		}
	}
}

// TestStrangersLeaveRoomToDial: however many connections come in, made or half
// made, the node can make some itself.
func TestStrangersLeaveRoomToDial(t *testing.T) {
	for _, made := range []bool{false, true} {
		rm, err := newLimits(protocolsFor("test"), relay.Limits{}, false)
		if err != nil {
			t.Fatal(err)
		}
		defer rm.Close()
		at := func(i int) ma.Multiaddr {
			return ma.StringCast(fmt.Sprintf("/ip4/%d.%d.%d.1/tcp/4001", 11+i%100, i/100, i%250))
		}
		in := 0
		for ; in < 2*maxConns; in++ {
			c, err := rm.OpenConnection(network.DirInbound, true, at(in))
			if err == nil && made {
				err = c.SetPeer(peer.ID(fmt.Sprint(in)))
			}
			if err != nil {
				break
			}
		}
		want := maxTransient - ownConns
		if made {
			want = maxConns - ownConns
		}
		if in != want {
			t.Errorf("made %v: %d connections came in, want %d", made, in, want)
		}
		for i := range ownConns {
			c, err := rm.OpenConnection(network.DirOutbound, true, at(2*maxConns+i))
			if err == nil {
				err = c.SetPeer(peer.ID(fmt.Sprint("out", i)))
			}
			if err != nil {
				t.Fatalf("made %v: no room for own connection %d: %v", made, i, err)
			}
		}
	}
}
