package node

import (
	"context"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

const (
	meterEvery = 5 * time.Second // ours
	meterLeast = 1 << 20         // bytes in that time; less says that little was asked for, not what the path can do
)

// meter measures what the relays of this node's own paths can do: at least
// what the paths carry when they are busy. It is the only thing that counts as
// capacity; what relays say of themselves does not.
type meter struct {
	paths  *paths
	cancel context.CancelFunc
	wg     sync.WaitGroup
	last   map[*ownPath]uint64 // used by one goroutine only
}

func newMeter(p *paths) *meter {
	ctx, cancel := context.WithCancel(context.Background())
	m := &meter{paths: p, cancel: cancel}
	m.wg.Go(func() {
		tick := time.NewTicker(meterEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				m.look(meterEvery)
			}
		}
	})
	return m
}

// look takes down what the paths carried since the last look.
func (m *meter) look(passed time.Duration) {
	now := make(map[*ownPath]uint64)
	m.paths.mu.Lock()
	for p := range m.paths.live {
		in, out := p.Traffic()
		now[p] = in + out
	}
	m.paths.mu.Unlock()
	for p, total := range now {
		before, known := m.last[p]
		if !known || total < before+meterLeast {
			continue
		}
		ids := make([]wire.NodeID, len(p.hops))
		for i, h := range p.hops {
			ids[i] = h.Node
		}
		m.paths.view.Carried(ids, float64(total-before)/passed.Seconds())
	}
	m.last = now
}

// Close ends the measuring and may be called twice.
func (m *meter) Close() error {
	m.cancel()
	m.wg.Wait()
	return nil
}
