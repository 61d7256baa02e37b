package node

import (
	"context"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// ownNetwork opens the links of this node's own paths. They send from the own
// share of what the node may send; all other links from that of others'
// circuits. It implements relay.Network.
type ownNetwork struct{ neighbours }

// Dial opens a link as neighbours does.
func (n ownNetwork) Dial(ctx context.Context, d wire.Descriptor) (relay.Link, error) {
	l, err := n.neighbours.dial(ctx, d)
	if err != nil {
		return nil, err
	}
	if l.up, _ = ctx.Value(budgetKey{}).(*relay.Budget); l.up == nil {
		l.up = n.t.shares.Session() // a path that belongs to no session
	}
	return l, nil
}

type budgetKey struct{}

// withBudget lets all paths that are built under a context share one session's
// budget.
func withBudget(ctx context.Context, b *relay.Budget) context.Context {
	return context.WithValue(ctx, budgetKey{}, b)
}
