package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"

	"wanderfs/node/view"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// settleFor is how long a node that begins learns of relays before it pins
// some, unless it knows enough sooner.
const settleFor = 1500 * time.Millisecond // ours

// mesh is the lower half of a node: the transport and what it finds through
// it. What it serves to others is plugged in with serve before start.
type mesh struct {
	t         *transport
	dht       *dht.IpfsDHT
	view      *view.View
	book      *peerBook
	self      *ownDescriptor
	discovery *discovery
	router    *router
	pins      *pinStore // nil: nothing is kept
	chooser   *chooser
	held      *heldRelays
	keeper    *keeper
	mdns      mdns.Service // nil unless asked for

	ctx    context.Context
	cancel context.CancelFunc
}

// meshConfig is the part of Config that the lower half needs.
type meshConfig struct {
	hostConfig
	Dir       string // "" persists nothing
	Bootstrap []string
	MDNS      bool
}

// portDir is where the port is remembered: not for a node that nobody dials.
func (c meshConfig) portDir() string {
	if c.Reachability == Private {
		return ""
	}
	return c.Dir
}

// server serves circuits; satisfied by *relay.Relay.
type server interface {
	Serve(relay.Link)
	Onion() (*wire.PublicKey, time.Time)
}

func newMesh(c meshConfig) (made *mesh, err error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m := &mesh{}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			m.Close()
			made = nil
		}
	}()
	name := func(file string) string {
		if c.Dir == "" {
			return ""
		}
		return filepath.Join(c.Dir, file)
	}
	if m.book, err = newPeerBook(view.Policy{Lab: c.Lab}, c.Bootstrap, name(peersFile)); err != nil {
		return m, err
	}
	if m.t, err = listen(c.hostConfig, c.portDir()); err != nil {
		return m, err
	}
	m.view = view.New(m.t.id, c.Network, m.t.policy, time.Now)
	if m.dht, err = newDHT(m.t, m.view); err != nil {
		return m, err
	}
	if c.Dir != "" {
		b, err := os.ReadFile(name(viewFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return m, fmt.Errorf("read view: %w", err)
		}
		m.view.Load(b)
	}
	m.self = &ownDescriptor{t: m.t, now: time.Now, issued: readIssued(name(issuedFile))}
	if c.Dir != "" {
		if m.pins, err = openPins(c.Dir, c.Network, c.Log); err != nil {
			return m, err
		}
	}
	if m.chooser, err = newChooser(m.view, m.pins, relay.ChoiceConfig{Settle: settleFor}, c.Log); err != nil {
		return m, err
	}
	m.held = newHeldRelays(m.t, m.view, m.self)
	m.discovery = newDiscovery(m.t, m.dht, m.view, m.self, m.held, m.book, c.Dir, c.Log)
	m.held.tell, m.held.visit = m.discovery.tellNeighbours, m.discovery.enqueue
	m.keeper = &keeper{t: m.t, chooser: m.chooser, discovery: m.discovery, settle: settleFor}
	m.router = &router{t: m.t, dht: m.dht, view: m.view, self: m.self}
	if c.MDNS {
		m.mdns = mdns.NewMdnsService(m.t.Host, m.t.protocols.mdns, m)
	}
	return m, nil
}

// serve plugs in who relays for others and who answers index requests; both
// nil on a node that does not relay. It is called once, before start.
func (m *mesh) serve(r server, store answerer) {
	if r != nil {
		m.self.onion = r.Onion
		m.t.intake.set(m.t.protocols.relay, func(s network.Stream) {
			l, err := m.t.newLink(s)
			if err != nil {
				s.Reset()
				return
			}
			defer l.done()
			r.Serve(l)
		})
	}
	m.router.store = store
}

// start begins to serve and to look for others.
func (m *mesh) start() error {
	m.self.refresh()
	m.t.intake.set(m.t.protocols.descriptors, m.discovery.answerExchange)
	m.t.intake.set(m.t.protocols.index, func(s network.Stream) { m.router.serve(m.ctx, s) })
	if err := m.discovery.start(); err != nil {
		return err
	}
	m.keeper.start()
	m.held.start()
	if m.mdns != nil {
		if err := m.mdns.Start(); err != nil {
			return errors.New("start mdns: no network interface for it")
		}
	}
	return nil
}

// HandlePeerFound implements mdns.Notifee.
func (m *mesh) HandlePeerFound(info peer.AddrInfo) {
	ctx, cancel := context.WithTimeout(m.ctx, 2*dialTimeout)
	defer cancel()
	m.t.Connect(ctx, info) // identify, then discovery, do the rest
}

// Close stops from the outside in and may be called twice.
func (m *mesh) Close() error {
	m.cancel()
	var errs []error
	if m.t != nil {
		m.t.intake.close() // nothing new comes in
	}
	if m.mdns != nil {
		m.mdns.Close()
	}
	if m.keeper != nil {
		m.keeper.Close() // dials through the transport; saves
	}
	if m.discovery != nil {
		errs = append(errs, m.discovery.Close()) // saves; needs nothing of the transport any more
	}
	if m.held != nil {
		m.held.Close() // what it was telling ended with discovery
	}
	if m.dht != nil {
		if m.dht.Close() != nil {
			errs = append(errs, errors.New("close routing"))
		}
	}
	if m.t != nil {
		errs = append(errs, m.t.Close())
	}
	errs = append(errs, m.pins.Close())
	return errors.Join(errs...)
}
