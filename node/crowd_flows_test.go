package node

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"wanderfs/relay"
)

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
	if q.Dead > 0 {
		b.Dead = q.Dead
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

// read lets N readers take what comes, and gives what each got a second.
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
			}
			rates[i] = float64(n-counted) / (time.Since(start) - settle).Seconds()
		})
	}
	wg.Wait()
	return rates, nil
}

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
