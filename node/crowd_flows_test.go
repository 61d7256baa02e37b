package node

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// publish opens a standing path for each way, whose session sends to each who
// joins it as much as he takes.
func (u *users) publish(ctx context.Context, b *relay.Builder, q crowdAsk) (a crowdTell, err error) {
	for _, way := range q.Ways {
		hops, err := parseHops(way)
		if err != nil {
			return a, err
		}
		p, err := b.Build(ctx, hops)
		if err != nil {
			return a, err
		}
		s, err := relay.NewSession()
		if err != nil {
			return a, err
		}
		l, err := p.Listen(ctx, s, bareJoin)
		if err != nil {
			return a, err
		}
		go serveZeros(l) // ends with the process
		u.mu.Lock()
		u.paths = append(u.paths, p)
		u.mu.Unlock()
		keys := s.Keys()
		a.Sessions = append(a.Sessions, &keys)
	}
	return a, nil
}

func serveZeros(l *relay.Listener) {
	b := make([]byte, 64<<10)
	for {
		c, err := l.Accept(context.Background())
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for _, err := c.Write(b); err == nil; _, err = c.Write(b) {
			}
		}()
	}
}

// join builds the i-th path and joins a session over it.
func (u *users) join(ctx context.Context, q crowdAsk, i int, n relay.Network) (*relay.Path, *relay.Conn, error) {
	hops, err := parseHops(q.Ways[i%len(q.Ways)])
	if err != nil {
		return nil, nil, err
	}
	b := u.builder(i)
	if n != nil {
		b.Network = n
	}
	p, err := b.Build(ctx, hops)
	if err != nil {
		return nil, nil, err
	}
	u.mu.Lock()
	u.paths = append(u.paths, p)
	u.mu.Unlock()
	c, err := p.Join(ctx, *q.Sessions[i%len(q.Sessions)], bareJoin, nil)
	return p, c, err
}

// read lets N readers take what comes, at most at a rate, and gives what each
// got a second.
func (u *users) read(ctx context.Context, q crowdAsk) ([]float64, error) {
	conns := make([]*relay.Conn, q.N)
	paths := make([]*relay.Path, q.N)
	errs := make([]error, q.N)
	each(q.At, q.N, func(i int) { paths[i], conns[i], errs[i] = u.join(ctx, q, i, nil) })
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	rates := make([]float64, q.N)
	var wg sync.WaitGroup
	settle := q.For / 4 // until all read and windows are full
	for i, c := range conns {
		wg.Go(func() {
			defer paths[i].Close()
			start := time.Now()
			n, counted := int64(0), int64(0)
			c.SetReadDeadline(start.Add(q.For))
			for b := make([]byte, 16<<10); ; {
				m, err := c.Read(b)
				n += int64(m)
				now := time.Since(start)
				if now < settle {
					counted = n
				}
				if err != nil {
					break
				}
				if q.Rate > 0 {
					time.Sleep(time.Duration(float64(n)/q.Rate*float64(time.Second)) - now)
				}
			}
			rates[i] = float64(n-counted) / (time.Since(start) - settle).Seconds()
		})
	}
	wg.Wait()
	return rates, nil
}

// stall lets N readers join, and takes nothing from their links then.
func (u *users) stall(ctx context.Context, q crowdAsk, fail func(error)) error {
	each(q.At, q.N, func(i int) {
		net := &stuckNetwork{Network: neighbours{t: u.hosts[i%len(u.hosts)]}}
		_, _, err := u.join(ctx, q, i, net)
		if err != nil {
			fail(err)
		}
		if l := net.link; l != nil {
			l.stick()
			u.mu.Lock()
			u.stuck = append(u.stuck, l)
			u.mu.Unlock()
		}
	})
	return nil
}

// stuckNetwork makes links that can stop to take anything.
type stuckNetwork struct {
	relay.Network
	link *stuckLink
}

// Dial implements relay.Network.
func (n *stuckNetwork) Dial(ctx context.Context, to wire.Descriptor) (relay.Link, error) {
	l, err := n.Network.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	n.link = &stuckLink{Link: l, over: make(chan struct{})}
	return n.link, nil
}

type stuckLink struct {
	relay.Link
	mu   sync.Mutex
	hold chan struct{} // not nil while stuck; guarded by mu
	over chan struct{}
	once sync.Once
}

func (l *stuckLink) stick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold = make(chan struct{})
}

func (l *stuckLink) let() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hold != nil {
		close(l.hold)
		l.hold = nil
	}
}

// Read implements relay.Link.
func (l *stuckLink) Read(b []byte) (int, error) {
	l.mu.Lock()
	hold := l.hold
	l.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-l.over:
			return 0, io.ErrClosedPipe
		}
	}
	return l.Link.Read(b)
}

// Close implements relay.Link.
func (l *stuckLink) Close() error { l.once.Do(func() { close(l.over) }); return l.Link.Close() }

// Reset implements relay.Link.
func (l *stuckLink) Reset() error { l.once.Do(func() { close(l.over) }); return l.Link.Reset() }

// use does with a path what its number says, for as long as that takes.
func (u *users) use(ctx context.Context, p *relay.Path, i int, q crowdAsk) (err error) {
	switch i % 4 {
	case 0:
		_, err = p.Ask(ctx, []byte("what?"))
	case 1:
		var c *relay.Conn
		if c, err = p.Join(ctx, *q.Sessions[i%len(q.Sessions)], bareJoin, []byte("first")); err == nil && i%8 == 1 {
			_, err = io.ReadFull(c, make([]byte, 100_000))
		}
	case 2:
		err = p.Ping(ctx)
	}
	return err // or ended at once
}
