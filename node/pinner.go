package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"wanderfs/cache"
	"wanderfs/cache/chunk"
)

// All are ours; any value works.
const (
	keepPending = 1 << 18         // refs of a tree that wait to be visited: the memory of a walk
	keepAtOnce  = 4               // leaves of a tree on their way
	keepFree    = 8 << 20         // bytes, at least, that pins leave of the cache
	keepAgain   = 2 * time.Minute // until a tree that could not be completed is tried again; doubles
	keepSeldom  = 2 * time.Hour   // at most
	keepStart   = time.Minute     // after the start, at most, before the network is asked
)

var (
	errTreeTooWide = errors.New("too many parts to keep")
	errKeepFull    = errors.New("what is pinned fills the cache")
)

// pinner keeps whole trees in the cache: all below what the user has pinned.
// One goroutine walks all pinned trees after each change, holds every chunk
// that it meets, and sweeps what no tree has any more; then it fetches what is
// missing, again and again until the trees are whole. The walk remembers
// nothing but what it still has to visit: the pins and holds in the cache are
// what survives a restart.
type pinner struct {
	cache  *cache.Cache
	getter func(root chunk.Ref) chunk.RangeGetter
	log    *slog.Logger

	cancel context.CancelFunc
	wg     sync.WaitGroup
	change chan struct{} // capacity 1
	rounds chan struct{} // capacity 1: a round is over; tests wait for it
}

func newPinner(c *cache.Cache, getter func(chunk.Ref) chunk.RangeGetter, log *slog.Logger) *pinner {
	k := &pinner{cache: c, getter: getter, log: log, change: make(chan struct{}, 1), rounds: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	k.wg.Go(func() { k.run(ctx) })
	return k
}

// Close ends the walks and waits. It may be called twice.
func (k *pinner) Close() error {
	k.cancel()
	k.wg.Wait()
	return nil
}

// pin keeps all below r, or no longer.
func (k *pinner) pin(r chunk.Ref, on bool) {
	if on {
		k.cache.Pin(r)
	} else {
		k.cache.Unpin(r)
	}
	poke(k.change)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (k *pinner) run(ctx context.Context) {
	// Nobody should see from what is asked for that this node has just started.
	wait, pause := rand.N(keepStart), keepAgain
	missing := k.mark(ctx)
	poke(k.rounds)
	for ctx.Err() == nil {
		var again <-chan time.Time
		if len(missing) > 0 {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-k.change:
			missing, pause = k.mark(ctx), keepAgain
		case <-again:
		}
		missing = k.complete(ctx, missing)
		wait, pause = pause, min(2*pause, keepSeldom)
		poke(k.rounds)
	}
}

// mark holds all that is known of the pinned trees and lets go of the rest. It
// asks nobody, and returns the trees that are not whole here.
func (k *pinner) mark(ctx context.Context) (missing []chunk.Ref) {
	round := k.cache.Round()
	for _, root := range k.cache.Pins() {
		whole := true
		err := k.walk(ctx, root, round, func(r chunk.Ref) ([]byte, error) {
			if r.IsRaw() {
				whole = whole && k.cache.Has(r)
				return nil, nil
			}
			b, err := k.cache.Get(r)
			whole = whole && err == nil
			if errors.Is(err, cache.ErrMiss) {
				err = nil // nothing is known of what lies below
			}
			return b, err
		})
		if err != nil || !whole {
			missing = append(missing, root)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	if n := k.cache.Sweep(round); n > 0 {
		k.log.Debug("pinned trees changed", "freed", n)
	}
	return missing
}

// complete fetches what the trees lack, and returns those that still lack
// something. A change of the pins ends it early.
func (k *pinner) complete(ctx context.Context, roots []chunk.Ref) (missing []chunk.Ref) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(done)
	wg.Go(func() {
		select {
		case <-k.change:
			poke(k.change) // for run
			cancel()
		case <-done:
		}
	})
	round := k.cache.Round()
	for _, root := range roots {
		if err := k.load(ctx, root, round); err != nil {
			if ctx.Err() == nil {
				k.log.Debug("pinned tree is not whole", "full", errors.Is(err, errKeepFull))
			}
			missing = append(missing, root)
		}
	}
	return missing
}

// load walks one tree and fetches all of it that is not here.
func (k *pinner) load(ctx context.Context, root chunk.Ref, round uint32) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g := k.getter(root)
	slots := make(chan struct{}, keepAtOnce)
	var wg sync.WaitGroup
	defer wg.Wait()
	err := k.walk(ctx, root, round, func(r chunk.Ref) ([]byte, error) {
		if s := k.cache.Stats(); s.Pinned > s.Limit-max(s.Limit/8, keepFree) {
			return nil, errKeepFull
		}
		if !r.IsRaw() {
			return g.Get(ctx, r)
		}
		if k.cache.Has(r) {
			return nil, nil
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		wg.Go(func() {
			defer func() { <-slots }()
			var b [1]byte // the task stores all of it
			if _, err := g.ReadRange(ctx, r, b[:], 0); err != nil {
				cancel(err)
			}
		})
		return nil, nil
	})
	wg.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// walk visits root and all below once in a round, and holds it. get gives the
// block of a ref; none, and no error, ends the walk there.
func (k *pinner) walk(ctx context.Context, root chunk.Ref, round uint32, get func(chunk.Ref) ([]byte, error)) error {
	todo := []chunk.Ref{root}
	for len(todo) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, known := r.Known(); known {
			continue
		}
		first, err := k.cache.Hold(r, round)
		if err != nil {
			return fmt.Errorf("hold: %w", err)
		}
		if !first {
			continue // below another folder, or the same once more
		}
		b, err := get(r)
		if err != nil {
			return err
		}
		if b == nil {
			continue
		}
		refs, err := chunk.Links(r, b)
		if err != nil {
			continue // no content: nothing below it can be read
		}
		if len(todo)+len(refs) > keepPending {
			return errTreeTooWide
		}
		for i := len(refs) - 1; i >= 0; i-- { // in order, depth first
			todo = append(todo, refs[i])
		}
	}
	return nil
}
