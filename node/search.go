package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"wanderfs/cache"
	"wanderfs/cache/chunk"
	"wanderfs/node/index"
)

// All are ours; any value works.
const (
	searchTimeout = 15 * time.Second // one asking
	againFirst    = time.Second      // between two askings while a listing is open; doubles
	firstAsks     = 3                // askings that find nothing before a listing is said to be empty
	againLast     = 10 * time.Minute
	keepListing   = time.Minute      // a closed listing is shown again for so long
	standingEvery = 15 * time.Minute // mean time between two runs of a standing query
	maxStanding   = 64
	maxListings   = 256
	standingName  = "standing-queries"
)

// ErrTooMany says that no more standing queries are kept. Drop one.
var ErrTooMany = errors.New("too many standing queries")

// searcher runs queries: those that somebody looks at, and standing ones. Each
// asking has a path of its own.
type searcher struct {
	network string
	pool    lookups
	cache   *cache.Cache
	log     *slog.Logger
	seed    [32]byte     // keeps publishers from working towards a good place
	rarity  index.Rarity // which words of a query to ask for

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	listings map[string]*listing           // by query; guarded by mu
	standing map[string]context.CancelFunc // guarded by mu
}

// lookups gives a path for each asking; satisfied by *pool.
type lookups interface {
	take(ctx context.Context) (*ownPath, error)
}

// listing is what one query has found so far, for all who look at it.
type listing struct {
	s     *searcher
	query string
	q     index.Query

	cancel context.CancelFunc // of its runner; guarded by s.mu
	users  int                // open Results; guarded by s.mu
	used   time.Time          // guarded by s.mu

	mu   sync.Mutex
	rows []chunk.Result             // guarded by mu
	err  error                      // guarded by mu
	asks int                        // askings that are over; guarded by mu
	last time.Time                  // when one was over; guarded by mu
	news chan struct{}              // closed and replaced at each change; guarded by mu
	subs map[chan struct{}]struct{} // capacity 1 each; guarded by mu
}

// Results are the live results of one query. Close them when done.
type Results struct {
	l       *listing
	changed chan struct{}
	once    sync.Once
}

// List returns what was found so far, ranked. The caller must not write to it.
func (r *Results) List() []chunk.Result {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	return r.l.rows
}

// Changed is signalled after List has changed. It is never closed.
func (r *Results) Changed() <-chan struct{} { return r.changed }

// Err tells why the last asking found nothing, if there is a reason.
func (r *Results) Err() error {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	return r.l.err
}

// Close ends this look at the query. It may be called twice.
func (r *Results) Close() { r.once.Do(func() { r.l.release(r.changed) }) }

func newSearcher(network string, p lookups, c *cache.Cache, log *slog.Logger) *searcher {
	s := &searcher{
		network: network, pool: p, cache: c, log: log,
		listings: make(map[string]*listing), standing: make(map[string]context.CancelFunc),
	}
	rand.Read(s.seed[:])
	s.ctx, s.cancel = context.WithCancel(context.Background())
	var kept []string
	if b, err := c.Unseal(standingName); err == nil && json.Unmarshal(b, &kept) == nil {
		for _, q := range kept[:min(len(kept), maxStanding)] {
			s.stand(q)
		}
	}
	return s
}

// Close ends all queries and waits for them.
func (s *searcher) Close() error {
	s.cancel()
	s.wg.Wait()
	return nil
}

// search opens a query and waits for its first results: until ctx ends, or a
// few askings have found nothing.
func (s *searcher) search(ctx context.Context, query string) (*Results, error) {
	l, err := s.open(query)
	if err != nil {
		return nil, err
	}
	r := &Results{l: l, changed: make(chan struct{}, 1)}
	l.mu.Lock()
	l.subs[r.changed] = struct{}{}
	enough := l.asks + firstAsks
	for len(l.rows) == 0 && l.asks < enough && ctx.Err() == nil && s.ctx.Err() == nil {
		news := l.news
		l.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
		l.mu.Lock()
	}
	l.mu.Unlock()
	if errors.Is(ctx.Err(), context.Canceled) {
		r.Close()
		return nil, ctx.Err()
	}
	return r, nil
}

// open returns the listing of a query with one user more.
func (s *searcher) open(query string) (*listing, error) {
	q, err := index.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	q.Seed, q.Rarity = s.seed, &s.rarity
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.listings[query]
	if l == nil {
		s.trimLocked()
		l = &listing{s: s, query: query, q: q, news: make(chan struct{}), subs: make(map[chan struct{}]struct{})}
		s.listings[query] = l
	}
	l.users++
	if l.cancel == nil {
		ctx, cancel := context.WithCancel(s.ctx)
		l.cancel = cancel
		s.wg.Go(func() { l.run(ctx) })
	}
	return l, nil
}

// trimLocked forgets listings that nobody has looked at for a while.
func (s *searcher) trimLocked() {
	for q, l := range s.listings {
		if l.users == 0 && s.standing[q] == nil && (time.Since(l.used) > keepListing || len(s.listings) > maxListings) {
			if l.cancel != nil {
				l.cancel()
			}
			delete(s.listings, q)
		}
	}
}

func (l *listing) release(sub chan struct{}) {
	l.mu.Lock()
	delete(l.subs, sub)
	l.mu.Unlock()
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.users--
	l.used = time.Now()
	if l.users == 0 && l.cancel != nil {
		l.cancel()
		l.cancel = nil
	}
}

// run asks again and again, ever more seldom, while somebody looks.
func (l *listing) run(ctx context.Context) {
	l.mu.Lock()
	wait := time.Until(l.last.Add(againFirst)) // who looks again and again asks no faster
	l.mu.Unlock()
	for pause := againFirst; ; pause = min(2*pause, againLast) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		l.ask(l.s.ctx) // goes on when the listing is closed: the next look has its rows
		wait = pause/2 + mrand.N(pause)
	}
}

// ask asks once, over a path of its own.
func (l *listing) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	path, err := l.s.pool.take(ctx)
	if err != nil {
		l.set(nil, err, true)
		return
	}
	defer path.Close()
	rows, err := index.SearchEach(ctx, l.s.network, path, l.q, func(rows []chunk.Result) { l.set(rows, nil, false) })
	l.set(rows, err, true)
}

// set merges what one asking found. Rows that this asking did not see stay:
// another far end may know what the next one does not.
func (l *listing) set(rows []chunk.Result, err error, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if over {
		l.asks++
		l.last = time.Now()
	}
	l.err = err
	if len(rows) > 0 {
		have := make(map[chunk.Ref]bool, len(rows))
		for _, r := range rows {
			have[r.Ref] = true
		}
		merged := slices.Clone(rows)
		for _, r := range l.rows {
			if !have[r.Ref] && len(merged) < 2*index.DefaultResults {
				merged = append(merged, r)
			}
		}
		if !slices.Equal(merged, l.rows) {
			l.rows = merged
			for sub := range l.subs {
				signal(sub)
			}
		}
	}
	close(l.news)
	l.news = make(chan struct{})
}

// keep makes a query standing, drop ends it; both are remembered under the
// cache's key.
func (s *searcher) keep(query string) error {
	if _, err := index.ParseQuery(query); err != nil {
		return fmt.Errorf("keep query: %w", err)
	}
	s.mu.Lock()
	full := len(s.standing) >= maxStanding && s.standing[query] == nil
	s.mu.Unlock()
	if full {
		return ErrTooMany
	}
	s.stand(query)
	return s.save()
}

func (s *searcher) drop(query string) error {
	s.mu.Lock()
	if cancel := s.standing[query]; cancel != nil {
		cancel()
		delete(s.standing, query)
	}
	s.mu.Unlock()
	return s.save()
}

func (s *searcher) kept() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]string, 0, len(s.standing))
	for q := range s.standing {
		out = append(out, q)
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

func (s *searcher) save() error {
	b, err := json.Marshal(s.kept())
	if err == nil {
		err = s.cache.Seal(standingName, b)
	}
	if err != nil {
		return fmt.Errorf("remember standing queries: %w", err)
	}
	return nil
}

// stand runs a query on a clock of its own: exponential pauses, also before
// the first run, so that a restart is no burst and no two queries meet.
func (s *searcher) stand(query string) {
	q, err := index.ParseQuery(query)
	if err != nil {
		return
	}
	q.Seed, q.Rarity = s.seed, &s.rarity
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.standing[query] != nil {
		return
	}
	l := s.listings[query]
	if l == nil {
		l = &listing{s: s, query: query, q: q, news: make(chan struct{}), subs: make(map[chan struct{}]struct{})}
		s.listings[query] = l
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.standing[query] = cancel
	s.wg.Go(func() {
		for {
			pause := time.Duration(mrand.ExpFloat64() * float64(standingEvery))
			select {
			case <-ctx.Done():
				return
			case <-time.After(min(pause, 8*standingEvery)):
				l.ask(s.ctx)
			}
		}
	})
}
