package index

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"wanderfs/relay/wire"
)

// ErrBusy says that a neighbour asked for more than its share. Others may have
// room, and so may this node later.
var ErrBusy = errors.New("index server is busy")

// Holder answers gets and puts from what it holds; satisfied by *Store.
type Holder interface {
	Answer(ctx context.Context, req []byte) ([]byte, error)
}

// ServerConfig configures a Server. Only Holder and Router have no default.
type ServerConfig struct {
	Holder  Holder
	Router  Router
	Self    wire.NodeID // never passed a walking query to
	Network string      // whose signatures count; "" is "main"

	Region int           // super nodes near a key among which a query walks; default 24
	Reach  time.Duration // for the next super node to be reached; default 700 ms
	Tries  int           // super nodes tried at one step that are dead or were visited; default 6
	Walks  int           // walking queries at the same time; default 128
	Walk   time.Duration // for one of them, and for all the same: what is left of it would tell how far it came; default 7 s
	Recent int           // walking queries remembered; default 8192
	Forget time.Duration // after which they are forgotten; default 1 min

	Reads  Share            // gets and walking queries of one neighbour; default 100/s, burst 1 000
	Writes Share            // records put by one neighbour; default 500/s, burst 50 000
	Now    func() time.Time // default time.Now
}

// Server answers what other nodes ask a super node: gets and puts from what it
// holds, and walking queries also by passing them on. It holds each neighbour
// to its share, keeps nothing on disk and is safe for concurrent use.
type Server struct {
	cfg           ServerConfig
	walker        walker
	slots         chan struct{}
	recent        *recentWalks
	reads, writes *shares
}

// spread is among how many of the nearest super nodes that were not tried yet
// the next one is chosen, so that walkers that meet part again; ours.
const spread = 2

// NewServer makes a Server.
func NewServer(cfg ServerConfig) *Server {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&cfg.Region, 24)
	def(&cfg.Tries, 6)
	def(&cfg.Walks, 128)
	def(&cfg.Recent, 8192)
	if cfg.Reach <= 0 {
		cfg.Reach = 700 * time.Millisecond
	}
	if cfg.Walk <= 0 {
		cfg.Walk = 7 * time.Second
	}
	if cfg.Forget <= 0 {
		cfg.Forget = time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Server{
		cfg:    cfg,
		walker: walker{cfg.Router, cfg.Network, cfg.Reach, cfg.Tries, walkCoin},
		slots:  make(chan struct{}, cfg.Walks),
		recent: newRecentWalks(cfg.Recent, cfg.Forget),
		reads:  newShares(cfg.Reads.or(Share{PerSecond: 100, Burst: 1000})),
		writes: newShares(cfg.Writes.or(Share{PerSecond: 500, Burst: 50_000})),
	}
}

// Answer answers one request of the neighbour from. ErrBusy says that it has
// used up its share, wire.ErrMalformed that it does not know the protocol.
func (s *Server) Answer(ctx context.Context, from wire.NodeID, req []byte) ([]byte, error) {
	if len(req) < putHead {
		return nil, wire.ErrMalformed
	}
	if from != s.cfg.Self {
		share, n := s.reads, 1
		if req[1] == opPut {
			share, n = s.writes, int(req[2])<<8|int(req[3])
		}
		if !share.take(from, n, s.cfg.Now()) {
			return nil, ErrBusy
		}
	}
	if req[1] != opWalk {
		return s.cfg.Holder.Answer(ctx, req)
	}
	w, err := parseWalk(req)
	if err != nil {
		return nil, err
	}
	return s.walk(ctx, from, w).encode(), nil
}

func (s *Server) walk(ctx context.Context, from wire.NodeID, w walkRequest) walkAnswer {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return walkAnswer{Status: walkSeen}
	}
	if !s.recent.first(w.ID, s.cfg.Now()) {
		return walkAnswer{Status: walkSeen}
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Walk)
	defer cancel()
	if b, err := s.cfg.Holder.Answer(ctx, w.Get.encode()); err == nil {
		if a, err := parseGot(b); err == nil && len(a.Records) > 0 {
			return walkAnswer{Status: walkFound, Got: a}
		}
	}
	w = w.remember(s.cfg.Self)
	region := s.cfg.Router.Known(w.Get.Addr, s.cfg.Region)
	a, _ := s.walker.pass(ctx, w, func(w walkRequest) (wire.NodeID, bool) {
		return s.next(from, w, region)
	})
	return a
}

// next chooses among the nearest super nodes that the query was not at. Never
// back: not to from, and not to itself.
func (s *Server) next(from wire.NodeID, w walkRequest, region []wire.NodeID) (wire.NodeID, bool) {
	near := make([]wire.NodeID, 0, spread)
	for _, n := range region {
		if n == from || n == s.cfg.Self || w.was(n) {
			continue
		}
		if near = append(near, n); len(near) == spread {
			break
		}
	}
	if len(near) == 0 {
		return wire.NodeID{}, false
	}
	// Alike for one query at one node, other for each query.
	h := sha256.Sum256(append(slices.Clone(w.ID[:]), s.cfg.Self[:]...))
	return near[int(h[0])%len(near)], true
}
