package node

import (
	"context"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"sync"
	"time"

	"wanderfs/node/view"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// All are ours; any value works.
const (
	firstPause  = 200 * time.Millisecond // between tries of one gateway
	lastPause   = 30 * time.Second
	entryPause  = time.Second      // the last one, as long as no entry answers
	latecomers  = 10 * time.Second // after a successor took over
	listenLimit = 15 * time.Second
)

// publishing is what the sessions of a publisher share.
type publishing struct {
	paths  *paths
	view   *view.View
	shares *relay.Shares
	effort int // bits, of puzzles for readers under load
	hops   int // own relays of a publishing path
	life   time.Duration
	own    ownSessions
}

// session is a publisher's session: it listens at up to wire.MaxGateways
// gateways, each over a standing path of its own, and replaces those that are
// lost. It lives for a random while and never outlives the process: its paths
// end with it, with a successor or without.
type session struct {
	lifetime
	p      *publishing
	keys   *relay.Session
	number wire.SessionNumber
	join   [32]byte
	serve  serveFunc

	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	changed chan struct{} // capacity 1: the gateways changed
	parting chan struct{} // closed when it drains
	quiet   chan struct{} // capacity 1: the last reader has gone

	mu       sync.Mutex
	gateways [wire.MaxGateways]*gateway // guarded by mu
	conns    int                        // guarded by mu
	err      error                      // why the last gateway failed; guarded by mu
	draining bool                       // guarded by mu
}

// serveFunc serves one reader. When leave is closed it tells him that the
// session ends soon.
type serveFunc func(ctx context.Context, c *relay.Conn, leave <-chan struct{})

// gateway is where a session listens, or is about to.
type gateway struct {
	desc  wire.Descriptor
	hops  []wire.Descriptor // to it, itself the last
	path  *ownPath
	ready bool
}

func newSession(p *publishing, serve serveFunc) (*session, error) {
	keys, err := relay.NewSession()
	if err != nil {
		return nil, fmt.Errorf("new session: %w", err)
	}
	if err := keys.SetEffort(p.effort); err != nil {
		return nil, fmt.Errorf("new session: %w", err)
	}
	s := &session{
		lifetime: newLifetime(time.Now(), p.life),
		p:        p, keys: keys, number: keys.Number(), serve: serve,
		changed: make(chan struct{}, 1), parting: make(chan struct{}), quiet: make(chan struct{}, 1),
	}
	p.own.note(s.number, s.over())
	rand.Read(s.join[:])
	s.ctx, s.cancel = context.WithDeadline(withBudget(context.Background(), p.shares.Session()), s.over())
	for slot := range s.gateways {
		s.wg.Go(func() { s.stand(slot) })
	}
	return s, nil
}

// stand keeps one gateway until the session ends. Each slot runs on a clock of
// its own, so that the loss of one path does not redraw the others.
func (s *session) stand(slot int) {
	pause := firstPause
	for s.ctx.Err() == nil {
		changed := s.p.view.Wait()
		err := s.standOnce(slot)
		s.mu.Lock()
		was := s.gateways[slot] != nil && s.gateways[slot].ready
		s.gateways[slot] = nil
		if err != nil {
			s.err = err
		}
		s.mu.Unlock()
		if was {
			pause = firstPause
			signal(s.changed)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-changed:
			// Something changed while this was tried: again, but not in a loop.
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(firstPause/2 + mrand.N(firstPause)):
			}
		case <-time.After(pause/2 + mrand.N(pause)):
		}
		pause = min(2*pause, lastPause)
		if noEntry(err) {
			pause = min(pause, entryPause)
		}
	}
}

// standOnce builds a path to a gateway, listens there and serves who joins,
// until the path is lost.
func (s *session) standOnce(slot int) error {
	path, err := s.p.paths.build(s.ctx, purposePublish, func() ([]wire.Descriptor, error) { return s.choose(slot) })
	if err != nil {
		return err
	}
	defer path.Close()
	ctx, cancel := context.WithTimeout(s.ctx, listenLimit)
	l, err := path.Listen(ctx, s.keys, s.join)
	cancel()
	if err != nil {
		if s.ctx.Err() == nil {
			s.p.view.HopFailed(path.hops[len(path.hops)-1].Node)
		}
		return fmt.Errorf("listen at gateway: %w", err)
	}
	defer l.Close()
	s.mu.Lock()
	s.gateways[slot].path, s.gateways[slot].ready = path, true
	if s.draining {
		s.p.paths.drain(path)
	}
	s.mu.Unlock()
	signal(s.changed)
	for {
		c, err := l.Accept(s.ctx)
		if err != nil {
			return nil // lost, or over: what to do is the same
		}
		s.mu.Lock()
		s.conns++
		s.mu.Unlock()
		s.wg.Go(func() {
			ctx, cancel := context.WithCancel(s.ctx)
			s.serve(ctx, c, s.farewell(ctx))
			cancel()
			s.mu.Lock()
			s.conns--
			if s.conns == 0 {
				signal(s.quiet)
			}
			s.mu.Unlock()
		})
	}
}

// farewell returns what is closed when a reader is to look for the successor:
// soon after the session has begun to drain, each reader at a time of his own.
func (s *session) farewell(ctx context.Context) <-chan struct{} {
	leave := make(chan struct{})
	s.wg.Go(func() {
		select {
		case <-s.parting:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(mrand.N(s.lifetime.drain/8 + 1)):
			close(leave)
		case <-ctx.Done():
		}
	})
	return leave
}

// choose chooses a path whose gateway none of the session's other paths has,
// and before it as few of their relays as possible: one that is lost should not
// take all of the session's gateways with it. The gateway is drawn once, whatever
// leads there: records name it, and a choice among several would show who is
// pinned.
func (s *session) choose(slot int) ([]wire.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var others, relays []wire.Descriptor
	for i, g := range s.gateways {
		if i != slot && g != nil {
			others = append(others, g.desc)
			relays = append(relays, g.hops...)
		}
	}
	hops, err := s.p.paths.chooser.path(s.p.hops+1, true, others...)
	if err != nil {
		return nil, err
	}
	to := hops[s.p.hops]
	if way, err := leastShared(relays, s.p.paths.suspect, func() ([]wire.Descriptor, error) {
		return s.p.paths.chooser.path(s.p.hops, false, to)
	}); err == nil {
		hops = append(way, to)
	}
	s.gateways[slot] = &gateway{desc: hops[len(hops)-1], hops: hops}
	return hops, nil
}

// source returns the signed record of where the session listens now; false
// while it listens nowhere.
func (s *session) source(network string) (wire.Source, bool) {
	s.mu.Lock()
	src := wire.Source{Keys: s.keys.Keys(), Join: s.join, Expires: s.over()}
	for _, g := range s.gateways {
		if g == nil || !g.ready {
			continue
		}
		d := g.desc
		if newer, ok := s.p.view.Settled(d.Node); ok && newer.Issued.After(d.Issued) {
			d = newer
		}
		if time.Now().Before(d.Expires) {
			src.Gateways = append(src.Gateways, d)
		}
	}
	s.mu.Unlock()
	if len(src.Gateways) == 0 {
		return src, false
	}
	src.Sign(s.keys.SignKey(), network)
	return src, true
}

// ready counts the gateways where the session listens.
func (s *session) ready() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, g := range s.gateways {
		if g != nil && g.ready {
			n++
		}
	}
	return n
}

func (s *session) missing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// finish tells the readers to leave, waits until they have gone or the time
// to drain is over, and ends the session. It is called once, when the index
// names a successor.
func (s *session) finish(ctx context.Context) {
	defer s.Close()
	s.retire()
	close(s.parting)
	end := time.NewTimer(s.lifetime.drain)
	defer end.Stop()
	// Who has just read the old record still comes.
	late := time.NewTimer(min(latecomers, s.lifetime.drain/2) + mrand.N(s.lifetime.drain/4+1))
	defer late.Stop()
	for past := false; ; {
		s.mu.Lock()
		idle := s.conns == 0
		s.mu.Unlock()
		if idle && past {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-s.ctx.Done():
			return
		case <-end.C:
			return
		case <-late.C:
			past = true
		case <-s.quiet:
		}
	}
}

// retire shows that a successor has taken over.
func (s *session) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for _, g := range s.gateways {
		if g != nil && g.ready {
			s.p.paths.drain(g.path)
		}
	}
}

// Close ends the session with its paths and forgets its keys.
func (s *session) Close() error {
	s.cancel()
	s.wg.Wait()
	s.keys.Erase()
	return nil
}
