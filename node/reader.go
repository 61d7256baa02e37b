package node

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/node/index"
	"wanderfs/node/view"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// finder finds the sessions that share content, through a lookup path of its
// own for each search. It implements fetch.Finder.
type finder struct {
	network string
	pool    *pool
	paths   *paths
	own     *readSessions
	policy  view.Policy
	hops    int // own relays of a reading path

	seen func(root chunk.Ref, routes []fetch.Route) // told what Find found; nil: nobody is
}

// Find implements fetch.Finder.
func (f *finder) Find(ctx context.Context, root chunk.Ref) ([]fetch.Route, error) {
	l := f.own.legs.of(root)
	path, err := f.lookPath(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("look up content: %w", err)
	}
	routes, err := f.ask(ctx, path, root)
	l.found(len(routes) > 0)
	if f.seen != nil && err == nil {
		f.seen(root, routes)
	}
	return routes, err
}

// look asks once, over a path that nothing else has seen.
func (f *finder) look(ctx context.Context, root chunk.Ref) ([]fetch.Route, error) {
	path, err := f.pool.take(ctx)
	if err != nil {
		return nil, fmt.Errorf("look up content: %w", err)
	}
	return f.ask(ctx, path, root)
}

// ask asks at the end of a path, and closes that.
func (f *finder) ask(ctx context.Context, path *ownPath, root chunk.Ref) ([]fetch.Route, error) {
	defer path.Close()
	found, err := index.Find(ctx, f.network, path, root)
	if err != nil {
		return nil, fmt.Errorf("look up content: %w", err)
	}
	return f.routes(root, found), nil
}

// routes turns the sources that verify into routes: the first gateway of
// every session, then the second of each, and so on. One that is this very node
// is as good as any: a session that stands at a few suspects would find out by
// which of them a reader never comes.
func (f *finder) routes(root chunk.Ref, found [][]byte) []fetch.Route {
	now := time.Now()
	newest := make(map[wire.SessionNumber]wire.Source)
	for _, b := range found {
		s, err := wire.ParseSource(b)
		if err != nil || s.Verify(f.network, now) != nil {
			continue
		}
		num := s.Keys.Number()
		if old, ok := newest[num]; !ok || s.Expires.After(old.Expires) || len(s.Gateways) > len(old.Gateways) {
			newest[num] = s
		}
	}
	var ranks [wire.MaxGateways][]fetch.Route
	for num, s := range newest {
		rand.Shuffle(len(s.Gateways), func(i, j int) { s.Gateways[i], s.Gateways[j] = s.Gateways[j], s.Gateways[i] })
		rank := 0
		for _, g := range s.Gateways {
			if newer, ok := f.paths.view.Settled(g.Node); ok && newer.Issued.After(g.Issued) {
				g = newer // its onion key may be another by now
			}
			if !f.policy.Accepts(g) || g.Verify(f.network, now) != nil {
				continue
			}
			ranks[rank] = append(ranks[rank], &route{f: f, root: root, number: num, source: s, gateway: g})
			rank++
		}
	}
	var out []fetch.Route
	for _, r := range ranks { // map order has shuffled the sessions
		out = append(out, r...)
	}
	return out
}

// route is one way to a session, by one of its gateways. It implements
// fetch.Route.
type route struct {
	f       *finder
	root    chunk.Ref // of the task that reads
	number  wire.SessionNumber
	source  wire.Source
	gateway wire.Descriptor
}

// Session implements fetch.Route.
func (r *route) Session() wire.SessionNumber { return r.number }

// Gateway implements fetch.Route.
func (r *route) Gateway() wire.NodeID { return r.gateway.Node }

// Dial implements fetch.Route: it builds a path of the reading task's own
// session, over one of its legs, to the gateway and joins the publisher's
// session there.
func (r *route) Dial(ctx context.Context, first []byte) (io.ReadWriteCloser, error) {
	path, own, err := r.f.own.path(ctx, r.root, func(ctx context.Context) (*legPath, error) {
		return r.f.paths.over(ctx, r.f.own.legs.of(r.root), r.gateway)
	})
	switch {
	case noEntry(err):
		return nil, fmt.Errorf("reach session: %w: %w", fetch.ErrNoWay, err)
	case err != nil:
		return nil, fmt.Errorf("reach session: %w", err)
	}
	conn, err := path.Join(ctx, r.source.Keys, r.source.Join, first)
	if err != nil {
		path.release(legClosed)
		path.Close()
		return nil, fmt.Errorf("join session: %w", err)
	}
	return &readConn{Conn: conn, path: path, own: own}, nil
}

// legSource gives what the legs of this node's reading tasks need.
func (b *paths) legSource(hops int, policy view.Policy) legSource {
	return legSource{
		choose: func(gateway wire.Descriptor) ([]wire.Descriptor, error) {
			hops, err := b.chooser.path(hops, false, gateway)
			if err != nil {
				return nil, err
			}
			return b.held.insert(hops), nil
		},
		hoods: func(d wire.Descriptor) (out []netip.Prefix) {
			for _, a := range policy.Dialable(d) {
				if !a.Addr().IsLoopback() { // a laboratory's whole network
					out = append(out, relay.Neighbourhood(a.Addr()))
				}
			}
			return out
		},
		get: func(id wire.NodeID, first bool) (wire.Descriptor, bool) {
			if d, ok := b.view.Hop(id, first); ok {
				return d, true
			}
			return b.held.get(id)
		},
		next:    b.held.joins,
		suspect: b.suspect,
		blame:   b.view.Doubts.Failed,
		doubt:   b.view.Doubts.Open,
	}
}

// readConn is a joined stream that owns its path. It implements
// fetch.Retiring.
type readConn struct {
	*relay.Conn
	path *legPath
	own  *readSession
}

// Retired is closed when the reading task has a new session.
func (c *readConn) Retired() <-chan struct{} { return c.own.retired }

// GivenUp implements fetch.Fallible: something on the way let too little come.
// Nothing is waited for, so that another path may take its place.
func (c *readConn) GivenUp() {
	c.path.release(legFailed)
	c.path.Reset()
}

// Close ends the stream and its path.
func (c *readConn) Close() error {
	c.path.release(legWorked)
	err := c.Conn.Close()
	if perr := c.path.Close(); err == nil {
		err = perr
	}
	return err
}
