package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// legPath is a reading path with the row of relays that it leads over.
type legPath struct {
	*ownPath
	legs *legs
	row  *leg
	once sync.Once
}

// over builds a path to the gateway over one of the legs. A gateway that fails
// ends it, a relay of the leg that fails is replaced.
func (b *paths) over(ctx context.Context, l *legs, gateway wire.Descriptor) (*legPath, error) {
	var last error
	for range buildTries {
		r, hops, err := l.take(ctx, gateway)
		if err != nil {
			return nil, err
		}
		p, err := b.through(ctx, purposeRead, append(slices.Clone(hops), gateway), false)
		if err == nil {
			return &legPath{ownPath: p, legs: l, row: r}, nil
		}
		var hop *relay.HopError
		switch errors.As(err, &hop); {
		case ctx.Err() != nil:
			l.done(r, legClosed, 0)
			return nil, ctx.Err()
		case hop == nil:
			l.done(r, legClosed, 0)
		case hop.Index >= len(hops):
			l.done(r, legClosed, 0)
			return nil, fmt.Errorf("reach gateway: %w", hop.Err)
		default:
			l.done(r, legRefused, hop.Index)
		}
		last = err
	}
	return nil, fmt.Errorf("build path: %w", last)
}

// release gives the leg back, once, with what is known of it. A path that has
// ended by itself has failed.
func (p *legPath) release(how fate) {
	p.once.Do(func() {
		if p.fell() {
			how = legFailed
		}
		p.legs.done(p.row, how, 0)
	})
}
