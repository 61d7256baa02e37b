package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"wanderfs/relay"
)

// firstJoinedByte joins a session, with as much work as it asks for, and reads
// a byte of it.
func (u *users) firstJoinedByte(ctx context.Context, q crowdAsk, i int) error {
	p, c, err := u.join(ctx, q, i, nil)
	if p != nil {
		defer p.Close()
	}
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return fmt.Errorf("first byte: %w", err)
	}
	return nil
}

// joinsAtOnce is how many of a flooder's JOINs may wait for an answer.
const joinsAtOnce = 16

// startJoins floods a session with Rate JOINs a second in the name of each
// user, all of them valid, over At paths each. He does none of the work that
// is asked for, and leaves at once where he is let in.
func (u *users) startJoins(ctx context.Context, q crowdAsk) (*flooding, error) {
	hops, err := parseHops(q.Ways[0])
	if err != nil {
		return nil, err
	}
	f := newFlooding()
	paths := make([][]*relay.Path, len(u.hosts)) // all before the flood begins
	for i := range u.hosts {
		for range q.At {
			b := u.builder(i)
			b.MaxEffort = -1
			p, err := b.Build(ctx, hops)
			if err != nil {
				f.end()
				return nil, err
			}
			paths[i] = append(paths[i], p)
			f.after = append(f.after, func() { p.Close() })
		}
	}
	for _, paths := range paths {
		var next atomic.Int64
		f.each(q.Rate, q.At*joinsAtOnce, func() {
			p := paths[next.Add(1)%int64(len(paths))]
			c, err := p.Join(f.ctx, *q.Sessions[0], bareJoin, nil)
			switch {
			case err == nil:
				f.passed.Add(1)
				c.Close()
			case !errors.Is(err, relay.ErrRefused):
				return
			}
			f.sent.Add(1)
		})
	}
	return f, nil
}
