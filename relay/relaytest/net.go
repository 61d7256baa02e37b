// Package relaytest is a network of real relays over in-memory links: with
// latency, with a rate, with relays that die, freeze or spoil frames, and with an observer
// who records what every relay sees. It opens no socket.
package relaytest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// Name is the network's name in descriptors and handshakes.
const Name = "test"

// Config describes a network. The zero value has six relays on fast links.
type Config struct {
	Relays  int                                  // 6
	Instant bool                                 // dialling takes no time, as if the nodes were connected
	Connect int                                  // round trips for the first link between two nodes, as TCP and TLS take; later ones take none; 0: one for each link
	Latency time.Duration                        // of each link, one way
	Spread  float64                              // links differ: latency times 1-Spread to 1+Spread, drawn for each link
	Rate    int64                                // bytes a second of each link and direction; 0: no bound
	Window  int                                  // bytes that a link holds; 4 MiB
	Shared  bool                                 // circuits between two nodes share one connection, with Rate, in turn
	Limits  relay.Limits                         // of each relay
	Refuse  func(i int) bool                     // relay i refuses all circuits; nil: none does
	Adjust  func(*relay.Config)                  // may change what a relay is made with
	Far     func(i int) relay.Far                // who answers at relay i; nil: nobody
	Tamper  func(from, to wire.NodeID, b []byte) // may change what is written; called under a lock of its link
	Shares  func(i int) *relay.Shares            // what relay i may send; nil: no bound
	Ended   func(from, to wire.NodeID, how End)  // hears of the end of each link, from both sides; called under no lock
	Over    func()                               // hears each time that a relay is done with a circuit; called under no lock
	Observe bool                                 // record sizes and bytes, see Observer
}

// Net is a network. Its methods are safe for concurrent use.
type Net struct {
	cfg   Config
	nodes []*node
	obs   Observer
	wg    sync.WaitGroup

	mu     sync.Mutex
	byID   map[wire.NodeID]*node
	links  map[*Link]struct{}
	lines  map[[2]wire.NodeID]*line // by who writes and who reads
	met    map[[2]wire.NodeID]bool  // pairs of nodes with a link now or before; guarded by mu, as are those above
	closed bool
}

type node struct {
	relay  *relay.Relay
	desc   wire.Descriptor
	shares *relay.Shares
	dead   bool // guarded by Net.mu
	frozen bool // guarded by Net.mu
}

// New makes a network and starts its relays.
func New(cfg Config) (*Net, error) {
	if cfg.Relays == 0 {
		cfg.Relays = 6
	}
	if cfg.Window == 0 {
		cfg.Window = 4 << 20
	}
	n := &Net{cfg: cfg, byID: map[wire.NodeID]*node{}, links: map[*Link]struct{}{}, lines: map[[2]wire.NodeID]*line{}, met: map[[2]wire.NodeID]bool{}}
	for i := range cfg.Relays {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make relay: %w", err)
		}
		var shares *relay.Shares
		if cfg.Shares != nil {
			shares = cfg.Shares(i)
		}
		c := relay.Config{
			Identity: key, NetworkName: Name, Limits: cfg.Limits,
			Network: &dialer{net: n, self: wire.NodeID(key.Public().(ed25519.PublicKey)), up: shares.Relayed()},
		}
		if cfg.Far != nil {
			c.Far = cfg.Far(i)
		}
		if cfg.Refuse != nil && cfg.Refuse(i) {
			c.Limits.Circuits = -1
		}
		if cfg.Adjust != nil {
			cfg.Adjust(&c)
		}
		r, err := relay.New(c)
		if err != nil {
			return nil, err
		}
		onion, expires := r.Onion()
		d := wire.Descriptor{
			Onion: onion, Flags: wire.FlagSuper, Issued: time.Now().Truncate(time.Second), Expires: expires,
			Addrs: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 1}), 4001)},
		}
		if err := d.Sign(key, Name); err != nil {
			return nil, err
		}
		nd := &node{relay: r, desc: d, shares: shares}
		n.nodes = append(n.nodes, nd)
		n.byID[d.Node] = nd
	}
	return n, nil
}

// Relay gives relay i.
func (n *Net) Relay(i int) *relay.Relay { return n.nodes[i].relay }

// Hops gives the descriptors of the relays i, in that order.
func (n *Net) Hops(i ...int) []wire.Descriptor {
	var ds []wire.Descriptor
	for _, i := range i {
		ds = append(ds, n.nodes[i].desc)
	}
	return ds
}

// Builder gives a builder for somebody who is no relay, with an identity of
// his own.
func (n *Net) Builder() *relay.Builder {
	var id wire.NodeID
	rand.Read(id[:])
	return &relay.Builder{Network: n.Network(id), NetworkName: Name}
}

// OwnBuilder gives a builder for one session that relay i runs itself.
func (n *Net) OwnBuilder(i int) *relay.Builder {
	nd := n.nodes[i]
	return &relay.Builder{Network: &dialer{net: n, self: nd.desc.Node, up: nd.shares.Session()}, NetworkName: Name}
}

// Network gives the links of a node that is no relay.
func (n *Net) Network(self wire.NodeID) relay.Network { return &dialer{net: n, self: self} }

// Observer gives what was recorded.
func (n *Net) Observer() *Observer { return &n.obs }

// Kill ends relay i as the death of its process would: all its links break.
func (n *Net) Kill(i int) {
	n.mu.Lock()
	n.nodes[i].dead = true
	ls := n.ofLocked(n.nodes[i].desc.Node)
	n.mu.Unlock()
	for _, l := range ls {
		l.fail()
	}
	n.nodes[i].relay.Close()
}

// Cut breaks the links between two nodes, as the loss of their connection does.
func (n *Net) Cut(a, b wire.NodeID) {
	n.mu.Lock()
	var ls []*Link
	for l := range n.links {
		if l.self == a && l.peer == b || l.self == b && l.peer == a {
			ls = append(ls, l)
		}
	}
	n.mu.Unlock()
	for _, l := range ls {
		n.ended(a, b, Broken)
		n.ended(b, a, Broken)
		l.fail()
	}
}

// Freeze stops all that moves on relay i's links, without closing any; Thaw
// lets it go on.
func (n *Net) Freeze(i int) { n.freeze(i, true) }

// Thaw undoes Freeze.
func (n *Net) Thaw(i int) { n.freeze(i, false) }

func (n *Net) freeze(i int, on bool) {
	n.mu.Lock()
	n.nodes[i].frozen = on
	ls := n.ofLocked(n.nodes[i].desc.Node)
	n.mu.Unlock()
	for _, l := range ls {
		l.freeze(on)
	}
}

func (n *Net) ofLocked(id wire.NodeID) []*Link {
	var ls []*Link
	for l := range n.links {
		if l.self == id || l.peer == id {
			ls = append(ls, l)
		}
	}
	return ls
}

// Close ends all relays and waits for them.
func (n *Net) Close() error {
	n.mu.Lock()
	n.closed = true
	for l := range n.links {
		l.Reset()
	}
	n.mu.Unlock()
	for _, nd := range n.nodes {
		nd.relay.Close()
	}
	n.wg.Wait()
	return nil
}

type dialer struct {
	net  *Net
	self wire.NodeID
	up   *relay.Budget // of what it sends
}

var errUnreachable = errors.New("node cannot be reached")

// dialling is how long a dial takes.
func (n *Net) dialling(from, to wire.NodeID) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.cfg.Instant, n.cfg.Connect > 0 && n.met[[2]wire.NodeID{from, to}]:
		return 0
	case n.cfg.Connect > 0:
		return time.Duration(2*n.cfg.Connect) * n.cfg.Latency
	}
	return 2 * n.cfg.Latency
}

// Dial makes a link to a relay and lets it serve the other end.
func (d *dialer) Dial(ctx context.Context, to wire.Descriptor) (relay.Link, error) {
	n := d.net
	if wait := n.dialling(d.self, to.Node); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n.mu.Lock()
	nd := n.byID[to.Node]
	me := n.byID[d.self]
	switch {
	case n.closed || nd == nil || nd.dead:
		n.mu.Unlock()
		return nil, errUnreachable
	case nd.frozen || me != nil && me.frozen:
		n.mu.Unlock()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	a, b := n.pairLocked(d.self, to.Node)
	a.up, b.up = d.up, nd.shares.Relayed()
	n.links[a] = struct{}{}
	n.met[[2]wire.NodeID{d.self, to.Node}], n.met[[2]wire.NodeID{to.Node, d.self}] = true, true
	n.wg.Go(func() {
		nd.relay.Serve(b)
		b.Close()
		n.mu.Lock()
		delete(n.links, a)
		n.mu.Unlock()
		if n.cfg.Over != nil {
			n.cfg.Over()
		}
	})
	n.mu.Unlock()
	return a, nil
}
