package index

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"wanderfs/relay/wire"
)

// Router finds super nodes and asks them. It must be safe for concurrent use.
type Router interface {
	// Nearest returns up to n super nodes, the nearest to key first. It may
	// include the node itself.
	Nearest(ctx context.Context, key [32]byte, n int) ([]wire.NodeID, error)
	// Ask sends a request to one super node's Server and returns its answer.
	Ask(ctx context.Context, to wire.NodeID, req []byte) ([]byte, error)
	// Known is Nearest without asking anybody. It may return none.
	Known(key [32]byte, n int) []wire.NodeID
	// Reach connects to a super node, if that is not the case already. An
	// error says that it is dead, or too slow for ctx.
	Reach(ctx context.Context, to wire.NodeID) error
}

// FarConfig configures a Far. Only Router has no default.
type FarConfig struct {
	Router   Router
	Network  string        // whose signatures count; "" is "main"
	Replicas int           // super nodes a record is put to; default 8
	First    int           // super nodes asked at first; default 3
	Requests int           // answered at the same time; default 64
	Parallel int           // look-ups, or super nodes, at the same time within one request; default 8
	Lookup   time.Duration // for finding super nodes; default 6 s
	Ask      time.Duration // for one super node's answer; default 4 s
	Widen    time.Duration // first answers awaited before more are asked; default 700 ms
	Grace    time.Duration // for stragglers once enough have answered; default 1 s
	Total    time.Duration // for one put, half of it for finding super nodes; default 30 s
	TotalGet time.Duration // for one get, walking included; default 9 s, within a look-up's 10 s
	Log      *slog.Logger  // nil is silence

	// When the nearest super nodes do not know, a get walks on.
	Walkers   int           // ways it takes at the same time; default 5; less than 0: it does not walk
	Walk      time.Duration // for walking; default 7 s
	WalkAfter time.Duration // it begins, with some of the nearest still silent; default 1.2 s
	Reach     time.Duration // for the first super node of a way to be reached; default 700 ms
	Walks     int           // gets that walk at the same time; default 16
}

// Far answers at a path's far end: it finds the super nodes nearest to an
// address and puts records there or merges what they hold. It satisfies
// relay.Far, keeps nothing and is safe for concurrent use.
type Far struct {
	cfg     FarConfig
	slots   chan struct{}
	walks   chan struct{}
	newWalk func() walkID     // random but in tests
	coin    func(walkID) bool // the same
}

// NewFar makes a Far.
func NewFar(cfg FarConfig) *Far {
	num := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	dur := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	num(&cfg.Replicas, 8)
	num(&cfg.First, 3)
	num(&cfg.Requests, 64)
	num(&cfg.Parallel, 8)
	num(&cfg.Walks, 16)
	if cfg.Walkers == 0 {
		cfg.Walkers = 5
	}
	dur(&cfg.Lookup, 6*time.Second)
	dur(&cfg.Ask, 4*time.Second)
	dur(&cfg.Widen, 700*time.Millisecond)
	dur(&cfg.Grace, time.Second)
	dur(&cfg.Total, 30*time.Second)
	dur(&cfg.TotalGet, 9*time.Second)
	dur(&cfg.Walk, 7*time.Second)
	dur(&cfg.WalkAfter, 1200*time.Millisecond)
	dur(&cfg.Reach, 700*time.Millisecond)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Far{
		cfg: cfg, slots: make(chan struct{}, cfg.Requests), walks: make(chan struct{}, cfg.Walks),
		newWalk: func() (id walkID) {
			rand.Read(id[:]) // never fails
			return id
		},
		coin: walkCoin,
	}
}

// Answer answers one put or get of an asker. It returns after its own
// deadlines at the latest, and after all that it started has ended.
func (f *Far) Answer(ctx context.Context, req []byte) ([]byte, error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if len(req) < 2 {
		return nil, wire.ErrMalformed
	}
	total := f.cfg.Total
	if req[1] == opGet {
		total = f.cfg.TotalGet
	}
	ctx, cancel := context.WithTimeout(ctx, total)
	defer cancel()
	switch req[1] {
	case opPut:
		recs, err := parsePut(req)
		if err != nil {
			return nil, err
		}
		return encodeCopies(0, f.put(ctx, recs)), nil
	case opGet:
		g, err := parseGet(req)
		if err != nil {
			return nil, err
		}
		a, err := f.get(ctx, g, req)
		if err != nil {
			return nil, err
		}
		return a.encode(), nil
	}
	return nil, wire.ErrMalformed
}

func (f *Far) nearest(ctx context.Context, addr [32]byte) ([]wire.NodeID, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Lookup)
	defer cancel()
	nodes, err := f.cfg.Router.Nearest(ctx, addr, f.cfg.Replicas)
	if len(nodes) > f.cfg.Replicas {
		nodes = nodes[:f.cfg.Replicas]
	}
	if len(nodes) > 0 {
		return nodes, nil
	}
	return nil, err
}

func (f *Far) ask(ctx context.Context, to wire.NodeID, req []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Ask)
	defer cancel()
	return f.cfg.Router.Ask(ctx, to, req)
}
