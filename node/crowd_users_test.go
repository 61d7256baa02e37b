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

	pouring pouring
	valid   supply   // of set-ups made before
	watch   watching // used by the one who answers, as is flood
	flood   *flooding

	mu    sync.Mutex
	paths []*relay.Path // guarded by mu
	stuck []stalled     // guarded by mu
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
		l.l.let()
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

// paced does N things, one after the other, For apart: others have their turn.
func (u *users) paced(q crowdAsk, f func(i int)) {
	tick := time.NewTicker(q.For)
	defer tick.Stop()
	for i := range q.N {
		<-tick.C
		f(i)
	}
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
	case "pour":
		close(u.pouring.gates[q.Wave])
	case "poured": // bytes, to the readers of waves
		a.N = int(u.pouring.poured.Load())
	case "joined": // readers of all sessions
		a.N = int(u.pouring.joined.Load())
	case "stall":
		u.stall(ctx, q, fail)
	case "left":
		a.Waves = u.left(ctx)
	case "read":
		a.Rates, err = u.read(ctx, q)
	case "watch":
		err = u.watch.start(ctx, u, q)
	case "rates":
		a.Rates, a.Why = u.watch.rates(q.For)
	case "first byte": // how long a path and an answer over it take
		u.paced(q, func(i int) {
			start := time.Now()
			p := build(i)
			if p == nil {
				return
			}
			defer p.Close()
			if _, err := p.Ask(ctx, []byte("x")); err != nil {
				fail(err)
				return
			}
			a.Took = append(a.Took, time.Since(start))
		})
	case "first joined byte": // how long a path, a session and a byte of its take
		u.paced(q, func(i int) {
			start := time.Now()
			if err := u.firstJoinedByte(ctx, q, i); err != nil {
				fail(err)
				return
			}
			a.Took = append(a.Took, time.Since(start))
		})
	case "prepare":
		return a, u.valid.prepare(q)
	case "flood":
		u.flood, err = u.startFlood(q)
	case "flood of joins":
		u.flood, err = u.startJoins(ctx, q)
	case "calm":
		a.N, a.Waves[0] = u.flood.end()
	default:
		return a, errors.New("no such task: " + fmt.Sprint(q.Op))
	}
	return a, nil
}
