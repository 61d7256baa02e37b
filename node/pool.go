package node

import (
	"context"
	"errors"
	"sync"
	"time"
)

// All are ours; any value works.
const (
	spares      = 2                // paths ready for the next lookups
	maxBuilding = 4                // paths built at once
	spareLife   = 10 * time.Minute // then a spare is replaced by a fresh one
	shortPause  = 500 * time.Millisecond
	longPause   = 15 * time.Second // between tries when nothing works
)

var errClosed = errors.New("node is closed")

// pool keeps paths ready for lookups. Each is handed out once, for one query
// or one batch, so that no two of them meet on a path.
type pool struct {
	build   func(ctx context.Context) (*ownPath, error)
	changed func() <-chan struct{} // closed when a failed build is worth another try at once

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	kick   chan struct{} // capacity 1

	mu       sync.Mutex
	ready    []*ownPath    // guarded by mu
	news     chan struct{} // closed and replaced when ready or err changed; guarded by mu
	building int           // guarded by mu
	waiting  int           // callers of take; guarded by mu
	fails    int           // in a row; guarded by mu
	err      error         // of the last build; guarded by mu
	works    bool          // the last build worked; guarded by mu
	closed   bool          // guarded by mu
}

func newPool(build func(ctx context.Context) (*ownPath, error), changed func() <-chan struct{}) *pool {
	p := &pool{build: build, changed: changed, kick: make(chan struct{}, 1), news: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.run)
	return p
}

// take gives a path that the caller closes. It waits for one until ctx ends;
// its error then says what is missing.
func (p *pool) take(ctx context.Context) (*ownPath, error) {
	p.mu.Lock()
	p.waiting++
	defer func() { // with mu held
		p.waiting--
		p.mu.Unlock()
		signal(p.kick)
	}()
	for {
		if p.closed {
			return nil, errClosed
		}
		for len(p.ready) > 0 {
			path := p.ready[0]
			p.ready = p.ready[1:]
			if path.Err() == nil {
				return path, nil
			}
		}
		news := p.news
		p.mu.Unlock()
		signal(p.kick)
		var err error
		select {
		case <-news:
		case <-ctx.Done():
			err = ctx.Err()
		}
		p.mu.Lock()
		if err != nil {
			if p.err != nil {
				return nil, p.err
			}
			return nil, err
		}
	}
}

// state reports whether a path is ready or, taken just now, soon will be, and
// what is missing if not.
func (p *pool) state() (ready bool, missing error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready) > 0 || p.works, p.err
}

func (p *pool) newsLocked() {
	close(p.news)
	p.news = make(chan struct{})
}

func (p *pool) run() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		changed := p.changed()
		p.mu.Lock()
		var old []*ownPath
		keep := p.ready[:0]
		next := spareLife
		for _, path := range p.ready {
			age := time.Since(path.Created())
			if path.Err() != nil || age >= spareLife {
				old = append(old, path)
				continue
			}
			next = min(next, spareLife-age)
			keep = append(keep, path)
		}
		p.ready = keep
		need := spares + p.waiting - len(p.ready) - p.building
		if p.fails > 0 { // one try at a time until it works again
			need = min(need, 1-p.building)
		}
		need = min(need, maxBuilding-p.building)
		for range max(0, need) {
			p.building++
			p.wg.Go(p.buildOne)
		}
		p.mu.Unlock()
		for _, path := range old {
			p.wg.Go(func() { path.Close() })
		}
		pause.Reset(next)
		select {
		case <-p.ctx.Done():
			return
		case <-p.kick:
		case <-pause.C:
		case <-changed:
			p.mu.Lock()
			p.fails = min(p.fails, 1)
			p.mu.Unlock()
		}
	}
}

// buildOne builds a path; after a failure it keeps its place for a pause, or
// until the view changes.
func (p *pool) buildOne() {
	changed := p.changed()
	path, err := p.build(p.ctx)
	p.mu.Lock()
	p.err, p.works = err, err == nil
	if err == nil {
		p.fails = 0
		if p.closed {
			p.building--
			p.mu.Unlock()
			path.Close()
			return
		}
		p.ready = append(p.ready, path)
		context.AfterFunc(doneContext{path.Done()}, func() { signal(p.kick) })
	} else {
		p.fails++
	}
	wait := min(shortPause<<min(p.fails, 8), longPause)
	p.newsLocked()
	p.mu.Unlock()
	if err != nil {
		select {
		case <-p.ctx.Done():
		case <-changed:
		case <-time.After(wait):
		}
	}
	p.mu.Lock()
	p.building--
	p.mu.Unlock()
	signal(p.kick)
}

// Close closes the spare paths and waits for all builds.
func (p *pool) Close() error {
	p.mu.Lock()
	p.closed = true
	ready := p.ready
	p.ready = nil
	p.newsLocked()
	p.mu.Unlock()
	p.cancel()
	closeAll(ready)
	p.wg.Wait()
	return nil
}

// closeAll closes paths side by side.
func closeAll(ps []*ownPath) {
	var wg sync.WaitGroup
	for _, path := range ps {
		wg.Go(func() { path.Close() })
	}
	wg.Wait()
}
