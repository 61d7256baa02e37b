package node

import (
	"context"
	"sync/atomic"

	"wanderfs/relay"
)

// poured is what each reader of a wave gets, in bytes: twice what he takes
// without reading, so that some of it lies on the way wherever there is room.
const poured = 512 << 10

// pouring is what a publisher sends to those who joined its sessions.
type pouring struct {
	gates  [3]chan struct{} // by wave; closed when it is poured
	joined atomic.Int64     // readers
	poured atomic.Int64     // bytes to those of a wave
}

func (p *pouring) init() {
	for i := range p.gates {
		p.gates[i] = make(chan struct{})
	}
	close(p.gates[0])
}

// publish opens a standing path for each way, whose session sends to each who
// joins it as much as he takes, at once or when its wave is poured.
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
		if err := s.SetEffort(q.Effort); err != nil {
			return a, err
		}
		l, err := p.Listen(ctx, s, bareJoin)
		if err != nil {
			return a, err
		}
		go u.pouring.serve(l, q.Wave) // ends with the process
		u.mu.Lock()
		u.paths = append(u.paths, p)
		u.mu.Unlock()
		keys := s.Keys()
		a.Sessions = append(a.Sessions, &keys)
	}
	return a, nil
}

func (p *pouring) serve(l *relay.Listener, wave int) {
	b := make([]byte, 64<<10)
	for {
		c, err := l.Accept(context.Background())
		if err != nil {
			return
		}
		p.joined.Add(1)
		go func() {
			defer c.Close()
			<-p.gates[wave]
			for sent := 0; wave == 0 || sent < poured; {
				n, err := c.Write(b)
				if err != nil {
					return
				}
				if sent += n; wave > 0 {
					p.poured.Add(int64(n))
				}
			}
			c.Read(b) // until he has gone
		}()
	}
}
