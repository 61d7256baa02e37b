package node

import (
	"context"
	"fmt"
	"sync"

	"wanderfs/node/index"
)

// announcer is what groups of content have in common that are found together:
// how their sessions are set up, and how records get into the index. All that
// runs for the groups ends with it.
type announcer struct {
	network string
	pool    *pool
	setup   *publishing
	put     func(context.Context, []index.Record) error // into the index

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	kick   chan struct{} // capacity 1: a group was told for the first time
}

func newAnnouncer(network string, pl *pool, setup *publishing, kick chan struct{}) *announcer {
	a := &announcer{network: network, pool: pl, setup: setup, kick: kick}
	a.put = a.putAlone
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// Close ends all sessions and waits for them. It may be called twice.
func (a *announcer) Close() error {
	a.cancel()
	a.wg.Wait()
	return nil
}

// putAlone puts records over a path that serves for nothing else.
func (a *announcer) putAlone(ctx context.Context, recs []index.Record) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	own, err := a.pool.take(ctx)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer own.Close()
	if err := index.Put(ctx, own, recs); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}
