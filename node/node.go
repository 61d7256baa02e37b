package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"wanderfs/cache"
	"wanderfs/node/fetch"
	"wanderfs/node/index"
	"wanderfs/node/share"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// Node is one running peer. All its methods are safe for concurrent use.
type Node struct {
	cfg Config

	lock    *flock.Flock
	cache   *cache.Cache
	share   *share.Share
	mesh    *mesh
	store   *index.Store // nil with NoRelay
	relay   *relay.Relay // nil with NoRelay
	paths   *paths
	meter   *meter
	lookups *pool
	publish *publisher
	reshare *resharer // nil without Config.Reshare
	search  *searcher
	fetch   *fetch.Fetcher
	reads   *readSessions
	pinner  *pinner

	closing sync.Once
	closed  error
}

// New starts a node. It returns as soon as the node runs; whether it has found
// others yet, Status tells. ctx bounds the start only. ErrInUse and ErrNewer
// are about the data directory.
func New(ctx context.Context, cfg Config) (started *Node, err error) {
	if cfg, err = cfg.complete(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg}
	if n.lock, err = claim(cfg.Data); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.Close()
			started = nil
		}
	}()
	at := func(name string) string { return filepath.Join(cfg.Data, name) }
	if n.cache, err = cache.Open(cache.Config{
		Dir: at("cache"), Limit: cfg.CacheSize, Memory: cfg.CacheKeyMemory, Log: cfg.Log,
	}); err != nil {
		return n, fmt.Errorf("open cache: %w", err)
	}
	if n.share, err = share.Open(ctx, share.Config{
		Dir: cfg.Shared, DB: at("share/catalogue.db"), Private: append([]string{cfg.Data}, cfg.Private...), Log: cfg.Log,
	}); err != nil {
		return n, fmt.Errorf("open shared directory: %w", err)
	}
	network := networkName(cfg.Network, cfg.Lab)
	key, err := loadIdentity(cfg.Data, cfg.NoRelay)
	if err != nil {
		return n, err
	}
	reach := cfg.Reachability
	if cfg.NoRelay {
		reach = Private // it is nobody's neighbour
	}
	if n.mesh, err = newMesh(meshConfig{
		hostConfig: hostConfig{
			Key: key, Network: network, Lab: cfg.Lab, Listen: cfg.Listen,
			Reachability: reach, NoUPnP: cfg.NoUPnP, Limits: cfg.Limits, Log: cfg.Log,
		},
		Dir: cfg.Data, Bootstrap: cfg.Bootstrap, MDNS: cfg.MDNS,
	}); err != nil {
		return n, err
	}
	n.mesh.t.shares = relay.NewShares(cfg.UpLimit, !cfg.NoRelay)
	if err = n.serveOthers(network); err != nil {
		return n, err
	}
	n.paths = newPaths(
		&relay.Builder{Network: ownNetwork{neighbours{t: n.mesh.t}}, NetworkName: network, Log: cfg.Log}, n.mesh.view, n.mesh.chooser, n.mesh.held)
	if err = n.mesh.start(); err != nil {
		return n, err
	}
	n.useNetwork(network)
	return n, nil
}

// serveOthers starts what this node does for others.
func (n *Node) serveOthers(network string) (err error) {
	if n.cfg.NoRelay {
		n.mesh.serve(nil, nil)
		return nil
	}
	if n.store, err = index.OpenStore(index.StoreConfig{
		Path: filepath.Join(n.cfg.Data, "index.db"), Network: network, Log: n.cfg.Log,
	}); err != nil {
		return fmt.Errorf("open index: %w", err)
	}
	var far relay.Far = index.NewFar(index.FarConfig{Router: n.mesh.router, Network: network, Log: n.cfg.Log})
	if n.cfg.far != nil {
		far = n.cfg.far(far)
	}
	if n.relay, err = relay.New(relay.Config{
		Identity: n.mesh.t.key, NetworkName: network, Far: far, Limits: n.cfg.Limits, Log: n.cfg.Log,
		Network: neighbours{n.mesh.t},
	}); err != nil {
		return fmt.Errorf("start relay: %w", err)
	}
	n.mesh.serve(n.relay, index.NewServer(index.ServerConfig{
		Holder: n.store, Router: n.mesh.router, Self: n.mesh.t.id, Network: network,
	}))
	return nil
}

// useNetwork starts what this node does for its user.
func (n *Node) useNetwork(network string) {
	chooser := n.mesh.chooser
	n.meter = newMeter(n.paths)
	n.lookups = newPool(func(ctx context.Context) (*ownPath, error) {
		return n.paths.build(ctx, purposeLookup, func() ([]wire.Descriptor, error) { return chooser.lookup(n.cfg.Hops) })
	}, n.mesh.view.Wait)
	n.reads = newReadSessions(n.paths, newLegBook(n.paths.legSource(n.cfg.Hops, n.mesh.t.policy)), n.cfg.SessionLife)
	find := &finder{
		network: network, pool: n.lookups, paths: n.paths, own: n.reads,
		policy: n.mesh.t.policy, hops: n.cfg.Hops,
	}
	setup := &publishing{
		paths: n.paths, view: n.mesh.view, shares: n.mesh.t.shares, effort: max(0, n.cfg.JoinEffort), hops: max(1, n.cfg.Hops-1), life: n.cfg.SessionLife,
	}
	if n.cfg.Reshare {
		n.reshare = newResharer(network, n.cache, n.share, n.lookups, setup, find.look, n.cfg.reshare, n.cfg.Log)
		find.seen = n.reshare.seen
	}
	n.fetch = fetch.New(fetch.Config{Finder: find, Store: localStore{n.cache, n.share}, Log: n.cfg.Log})
	n.pinner = newPinner(n.cache, n.fetch.Getter, n.cfg.Log)
	n.search = newSearcher(network, n.lookups, n.cache, n.cfg.Log)
	n.publish = newPublisher(network, n.share, n.lookups, setup, n.cfg.Log)
}

// Share is the shared directory.
func (n *Node) Share() *share.Share { return n.share }

// Close stops the node, waits for it and may be called twice. It goes from the
// outside in: what the user waits for first, then the sessions and paths, then
// what is done for others, the transport, and the stores last.
func (n *Node) Close() error {
	n.closing.Do(func() {
		var errs []error
		add := func(err error) { errs = append(errs, err) }
		if n.lookups != nil { // so is all that useNetwork started
			var wg sync.WaitGroup
			var mu sync.Mutex
			// Side by side: each says goodbye on paths of its own.
			parts := []io.Closer{n.pinner, n.fetch, n.reads, n.search, n.publish, n.lookups, n.meter}
			if n.reshare != nil {
				parts = append(parts, n.reshare)
			}
			for _, part := range parts {
				wg.Go(func() {
					err := part.Close()
					mu.Lock()
					defer mu.Unlock()
					add(err)
				})
			}
			wg.Wait()
		}
		if n.mesh != nil && n.mesh.t != nil {
			n.mesh.t.intake.close() // no new circuits
		}
		if n.relay != nil {
			add(n.relay.Close()) // before the transport: its circuits end in order
		}
		if n.mesh != nil {
			add(n.mesh.Close())
		}
		if n.store != nil {
			add(n.store.Close())
		}
		if n.share != nil {
			add(n.share.Close())
		}
		if n.cache != nil {
			add(n.cache.Close())
		}
		if n.lock != nil {
			add(n.lock.Close()) // last: the directory is free now
		}
		n.closed = errors.Join(errs...)
	})
	return n.closed
}
