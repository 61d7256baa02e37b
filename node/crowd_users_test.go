package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"wanderfs/relay"
)

// users are many neighbours in one process, each with a transport, that build
// paths when they are told to.
type users struct {
	hosts []*transport

	mu    sync.Mutex
	paths []*relay.Path // guarded by mu
	stuck []*stuckLink  // guarded by mu
	flood *flooding     // used by the one who answers
}

// add starts n more.
func (u *users) add(n int, window uint32) error {
	for range n {
		key, err := loadIdentity("", true)
		if err != nil {
			return err
		}
		t, err := newTransport(hostConfig{Key: key, Network: crowdNetwork, Lab: true, Reachability: Private, Log: slog.New(slog.DiscardHandler), window: window})
		if err != nil {
			return err
		}
		u.hosts = append(u.hosts, t)
	}
	return nil
}

func (u *users) close() {
	u.closePaths()
	for _, t := range u.hosts {
		t.Close()
	}
}

func (u *users) closePaths() {
	u.mu.Lock()
	paths := u.paths
	u.paths = nil
	for _, l := range u.stuck {
		l.let()
	}
	u.stuck = nil
	u.mu.Unlock()
	each(64, len(paths), func(i int) { paths[i].Close() })
}

// each runs f for 0 to n-1, at most at of them at a time.
func each(at, n int, f func(i int)) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(at, n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// builder gives user i's.
func (u *users) builder(i int) *relay.Builder {
	return &relay.Builder{
		Network: neighbours{t: u.hosts[i%len(u.hosts)]}, NetworkName: crowdNetwork,
		Dead: crowdDead, HopTimeout: crowdWait,
	}
}

func (u *users) answer(q crowdAsk) (a crowdTell, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	var mu sync.Mutex
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		a.Failed++
		if a.Why == nil {
			a.Why = map[string]int{}
		}
		a.Why[err.Error()]++
	}
	build := func(i int) *relay.Path {
		hops, err := parseHops(q.Ways[i%len(q.Ways)])
		if err != nil {
			fail(err)
			return nil
		}
		p, err := u.builder(i).Build(ctx, hops)
		if err != nil {
			fail(err)
			return nil
		}
		return p
	}
	switch q.Op {
	case "build": // N paths, and keep them
		each(q.At, q.N, func(i int) {
			if p := build(i); p != nil {
				u.mu.Lock()
				u.paths = append(u.paths, p)
				u.mu.Unlock()
			}
		})
	case "alive": // how many of the paths give a sign of life
		u.mu.Lock()
		paths := u.paths
		u.mu.Unlock()
		var n atomic.Int64
		each(q.At, len(paths), func(i int) {
			if err := paths[i].Ping(ctx); err != nil {
				fail(err)
				return
			}
			n.Add(1)
		})
		a.N = int(n.Load())
	case "close":
		u.closePaths()
	case "churn": // N paths that are built, used and ended, each in one of several ways
		each(q.At, q.N, func(i int) {
			if p := build(i); p != nil {
				if err := u.use(ctx, p, i, q); err != nil {
					fail(err)
				}
				p.Close()
			}
		})
	case "publish":
		return u.publish(ctx, u.builder(0), q)
	case "stall":
		return a, u.stall(ctx, q, fail)
	case "read":
		a.Rates, err = u.read(ctx, q)
	case "first byte": // how long a path and an answer over it take
		for i := range q.N {
			start := time.Now()
			p := build(i)
			if p == nil {
				break
			}
			if _, err := p.Ask(ctx, []byte("x")); err != nil {
				fail(err)
			}
			a.Took = append(a.Took, time.Since(start))
			p.Close()
			time.Sleep(q.For) // others have their turn
		}
	case "flood":
		u.flood, err = u.startFlood(q)
	case "calm":
		a.N = u.flood.end()
	default:
		return a, errors.New("no such task: " + fmt.Sprint(q.Op))
	}
	return a, nil
}
