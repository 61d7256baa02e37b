package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

const (
	maxReadPaths = 4                // of one reading session; DESIGN, Isolation
	readLinger   = 15 * time.Second // a session that has no path for so long ends; ours
)

// readSessions keeps a session for each reading task: a pseudonym with keys of
// its own, to which the task's paths belong and to no other. It is safe for
// concurrent use.
type readSessions struct {
	life  time.Duration // mean
	paths *paths
	legs  *legBook

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards all below, and the sessions' fields that say so
	tasks    map[chunk.Ref]*readSession
	draining map[*readSession]struct{}
	closed   bool
}

// readSession is one of them:
//
//	in use -> retired: a successor gives the task's next paths -> over
//
// It is over when its last path has gone, or its time. Nothing on a wire names
// it in this version: publishers need not know who reads. Its number is for
// the node's own status.
type readSession struct {
	lifetime // when it retires, expires becomes its very end, guarded by readSessions.mu

	keys    *relay.Session
	number  wire.SessionNumber
	ctx     context.Context // ends with the session; its paths end then
	cancel  context.CancelFunc
	retired chan struct{} // closed when a successor took over
	slots   chan struct{} // one token for each path
	moved   chan struct{} // capacity 1: users changed

	users int                   // paths, also those being built; guarded by readSessions.mu
	open  map[*ownPath]struct{} // guarded by readSessions.mu
}

func newReadSessions(p *paths, legs *legBook, life time.Duration) *readSessions {
	r := &readSessions{
		life: life, paths: p, legs: legs,
		tasks: make(map[chunk.Ref]*readSession), draining: make(map[*readSession]struct{}),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Close ends all sessions with their paths and waits for them.
func (r *readSessions) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.wg.Wait()
	return nil
}

// path gives the task of root one more path of its present session, made by
// build; it waits while the session has maxReadPaths. It returns the session,
// too, which closes the path at its end.
func (r *readSessions) path(ctx context.Context, root chunk.Ref, build func(context.Context) (*legPath, error)) (*legPath, *readSession, error) {
	s, err := r.enter(root)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		r.leave(s, nil)
		return nil, nil, ctx.Err()
	}
	p, err := build(ctx)
	if err != nil {
		<-s.slots
		r.leave(s, nil)
		return nil, nil, err
	}
	r.mu.Lock()
	s.open[p.ownPath] = struct{}{}
	over := s.ctx.Err() != nil
	if _, ok := r.draining[s]; ok {
		r.paths.drain(p.ownPath)
	}
	r.mu.Unlock()
	context.AfterFunc(doneContext{p.Done()}, func() {
		<-s.slots
		r.leave(s, p.ownPath)
	})
	if over { // it may have closed its paths before it knew this one
		p.release(legClosed)
		p.Close()
		return nil, nil, s.ctx.Err()
	}
	return p, s, nil
}

// enter returns the session of root's task with one user more.
func (r *readSessions) enter(root chunk.Ref) (*readSession, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errClosed
	}
	s := r.tasks[root]
	if s == nil {
		var err error
		if s, err = r.beginLocked(root); err != nil {
			return nil, err
		}
	}
	s.users++
	signal(s.moved)
	return s, nil
}

// leave undoes enter; p is the path that has gone, if there was one.
func (r *readSessions) leave(s *readSession, p *ownPath) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(s.open, p)
	s.users--
	signal(s.moved)
}

func (r *readSessions) beginLocked(root chunk.Ref) (*readSession, error) {
	keys, err := relay.NewSession()
	if err != nil {
		return nil, fmt.Errorf("new session: %w", err)
	}
	s := &readSession{
		lifetime: newLifetime(time.Now(), r.life), keys: keys, number: keys.Number(),
		retired: make(chan struct{}), slots: make(chan struct{}, maxReadPaths), moved: make(chan struct{}, 1),
		open: make(map[*ownPath]struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(r.ctx)
	r.tasks[root] = s
	r.wg.Go(func() {
		r.use(root, s)
		r.drain(s)
		r.end(s)
	})
	return s, nil
}

// use returns when s is no longer its task's present session: its time has
// come, or nobody has used it for a while.
func (r *readSessions) use(root chunk.Ref, s *readSession) {
	idle := time.NewTimer(readLinger)
	defer idle.Stop()
	successor := time.NewTimer(time.Until(s.successor))
	defer successor.Stop()
	for {
		due := false
		select {
		case <-s.ctx.Done():
			due = true
		case <-successor.C:
			due = true
		case <-s.moved:
			idle.Reset(readLinger)
			continue
		case <-idle.C:
		}
		r.mu.Lock()
		if due || s.users == 0 {
			delete(r.tasks, root)
			if due { // in its time, which nobody else sets
				r.legs.renew(root)
			}
			if s.users > 0 && !r.closed {
				_, _ = r.beginLocked(root) // if that fails, the next path tries again
			}
			s.expires = time.Now().Add(s.drain)
			r.draining[s] = struct{}{}
			for p := range s.open {
				r.paths.drain(p)
			}
			r.mu.Unlock()
			close(s.retired)
			return
		}
		r.mu.Unlock()
	}
}

// drain waits until the paths of s have gone, or its time is over.
func (r *readSessions) drain(s *readSession) {
	end := time.NewTimer(s.drain)
	defer end.Stop()
	for {
		r.mu.Lock()
		idle := s.users == 0
		r.mu.Unlock()
		if idle {
			return
		}
		select {
		case <-s.moved:
		case <-end.C:
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// end closes what is left of s.
func (r *readSessions) end(s *readSession) {
	s.cancel()
	r.mu.Lock()
	delete(r.draining, s)
	left := make([]*ownPath, 0, len(s.open))
	for p := range s.open {
		left = append(left, p)
	}
	r.mu.Unlock()
	closeAll(left)
	s.keys.Erase()
}

// sessions lists the living ones.
func (r *readSessions) sessions() (out []sessionInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.tasks {
		out = append(out, sessionInfo{role: roleReader, number: s.number, expires: s.expires})
	}
	for s := range r.draining {
		out = append(out, sessionInfo{role: roleReader, number: s.number, expires: s.expires, draining: true})
	}
	return out
}
