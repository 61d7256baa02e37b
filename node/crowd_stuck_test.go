package node

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// stalled is a path whose link takes nothing.
type stalled struct {
	p    *relay.Path
	l    *stuckLink
	wave int
}

// stall lets N readers join, and takes nothing from their links then. Their
// paths, which hear nothing any more, are not dead for them before Dead.
func (u *users) stall(ctx context.Context, q crowdAsk, fail func(error)) {
	each(q.At, q.N, func(i int) {
		net := &stuckNetwork{Network: neighbours{t: u.hosts[i%len(u.hosts)]}}
		p, _, err := u.join(ctx, q, i, net)
		if err != nil {
			fail(err)
		}
		if l := net.link; l != nil {
			l.stick()
			u.mu.Lock()
			u.stuck = append(u.stuck, stalled{p, l, q.Wave})
			u.mu.Unlock()
		}
	})
}

// left tells how many of the stalled paths have not been reset, by wave: they
// take a question and leave it at that.
func (u *users) left(ctx context.Context) (n [2]int) {
	u.mu.Lock()
	all := u.stuck
	u.mu.Unlock()
	var alive [2]atomic.Int64
	each(1024, len(all), func(i int) {
		if all[i].p == nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if errors.Is(all[i].p.Ping(ctx), context.DeadlineExceeded) {
			alive[all[i].wave-1].Add(1)
		}
	})
	return [2]int{int(alive[0].Load()), int(alive[1].Load())}
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
