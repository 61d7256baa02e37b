package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"wanderfs/relay/wire"
)

// Config says how a relay works. Identity is needed, and Network unless the
// relay never goes on to another.
type Config struct {
	Identity    ed25519.PrivateKey // the node's; its public half is the NodeID
	NetworkName string             // paths never lead from one network to another; "main"
	Network     Network            // to go on to further relays; nil refuses
	Far         Far                // who answers requests; nil refuses them
	Limits      Limits
	Log         *slog.Logger     // nil is silence
	Now         func() time.Time // for records' times; time.Now

	// Tests only: what would show without what hides it, and what a relay sees.
	plain emptiness // filler is zeros
	leaky leaks
	watch func(from wire.NodeID, what string, frame uint64)
}

// leaks are things that the protocol does not do, so that tests see what would
// show if it did.
type leaks struct {
	ends  bool // the way in which a link ended goes on to the next
	times bool // patience is the same for all
	deaf  bool // a relay whose next takes nothing does not look after the one before
}

func (c *Config) sees(from wire.NodeID, what string, frame uint64) {
	if c.watch != nil {
		c.watch(from, what, frame)
	}
}

// Stats are sums that name nobody.
type Stats struct {
	Circuits int    // at this moment
	Bytes    uint64 // payload carried for others: a frame's capacity when passed on, a byte once when spliced
	Held     int64  // bytes of frames held for others at this moment
	Taken    uint64 // circuits that were let in
	Refused  uint64 // circuits that were not: a limit, whichever
}

// Relay carries circuits of others. All methods are safe for concurrent use.
type Relay struct {
	cfg    Config
	limits Limits
	id     wire.NodeID
	onion  *onionKeys
	log    *slog.Logger

	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup // one for each Serve, one for keepHouse, one for onion
	bytes   atomic.Uint64
	taken   atomic.Uint64
	refused atomic.Uint64
	pool    pool         // of frames that it holds
	waiting waiting      // who holds them
	streams atomic.Int64 // that end here, of all circuits
	crowded crowded      // whose they are
	secret  [32]byte     // for puzzles
	workers workers      // for handshakes

	mu         sync.Mutex
	closed     bool
	opening    int // circuits whose first frame was not answered yet
	counted    int // circuits that were not given up
	dials      int // extensions under way
	circuits   map[*circuit]struct{}
	neighbours map[wire.NodeID]*neighbour
	origins    map[whence]*origin // of all neighbours, and no other
	targets    map[wire.NodeID]*rate.Limiter
	swept      time.Time // when those who were idle were last forgotten
	sessions   map[wire.SessionNumber]*standing
}

// New makes a relay with a new onion key. Close ends it.
func New(cfg Config) (*Relay, error) {
	if len(cfg.Identity) != ed25519.PrivateKeySize {
		return nil, errors.New("relay needs an identity")
	}
	if cfg.NetworkName == "" {
		cfg.NetworkName = "main"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	limits := cfg.Limits.WithDefaults()
	keys, err := newOnionKeys(cfg.Now, limits.replays())
	if err != nil {
		return nil, fmt.Errorf("make onion key: %w", err)
	}
	r := &Relay{
		cfg: cfg, limits: limits, onion: keys, log: cfg.Log,
		id:         wire.NodeID(cfg.Identity.Public().(ed25519.PublicKey)),
		circuits:   map[*circuit]struct{}{},
		neighbours: map[wire.NodeID]*neighbour{},
		origins:    map[whence]*origin{},
		targets:    map[wire.NodeID]*rate.Limiter{},
		sessions:   map[wire.SessionNumber]*standing{},
	}
	rand.Read(r.secret[:])
	r.workers.free, r.workers.pace = r.limits.Workers, r.limits.setUps()
	r.pool.limit, r.pool.full = r.limits.Pool/wire.FrameSize, r.relieve
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.keepHouse)
	r.wg.Go(func() { keys.run(r.ctx) })
	return r, nil
}

// Onion gives the public onion key for the relay's own descriptor, and when
// that descriptor must expire at the latest. The key is a new one after each
// wire.OnionTurn; nil after Close.
func (r *Relay) Onion() (*wire.PublicKey, time.Time) { return r.onion.current() }

// Stats gives the sums so far.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{
		Circuits: len(r.circuits), Bytes: r.bytes.Load(), Held: r.pool.held.Load() * wire.FrameSize,
		Taken: r.taken.Load(), Refused: r.refused.Load(),
	}
}

// Serve carries one circuit that a neighbour opened, and returns when it is
// over. It owns the link.
func (r *Relay) Serve(l Link) {
	c := r.admit(l)
	if c == nil {
		r.refused.Add(1)
		l.Reset()
		return
	}
	r.taken.Add(1)
	defer r.wg.Done()
	c.prev.count(c)
	err := c.run()
	c.end(err)
	c.wg.Wait()
	c.erase()
	r.dismiss(c)
	r.log.Debug("circuit over")
}

// Close ends all circuits, waits until they are gone and drops the onion
// keys. It may be called twice.
func (r *Relay) Close() error {
	r.mu.Lock()
	r.closed = true
	var cs []*circuit
	for c := range r.circuits {
		cs = append(cs, c)
	}
	r.mu.Unlock()
	r.cancel() // dials and answers first, so that circuits can end
	for _, c := range cs {
		c.end(context.Canceled)
	}
	r.wg.Wait()
	r.onion.erase() // nobody shakes hands any more
	return nil
}
