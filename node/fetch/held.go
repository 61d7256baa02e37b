package fetch

import (
	"context"
	"sync"
	"time"
)

// Both are ours; any value works.
const (
	crowdedFor = 250 * time.Millisecond // a block waits so long for room until somebody has to go
	stalledFor = 5 * time.Second        // who took no quarter of a megabyte in that time may have to
)

// held bounds the blocks that all connections of a Server have in memory. Some
// bytes of requests make four megabytes of blocks, and a reader that takes none
// of them keeps these. While others wait for room, the one that has taken
// nothing for longest has to go.
type held struct {
	room chan struct{} // one for each block

	mu  sync.Mutex
	all map[*serving]struct{} // guarded by mu
}

func newHeld(n int) *held {
	return &held{room: make(chan struct{}, n), all: make(map[*serving]struct{})}
}

func (h *held) join(v *serving) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[v] = struct{}{}
}

// leave gives back what v still has, when nothing of it is loading any more.
func (h *held) leave(v *serving) {
	h.mu.Lock()
	delete(h.all, v)
	h.mu.Unlock()
	for v.kept.Add(-1) >= 0 {
		h.give()
	}
}

// take waits for room for one block; give gives it back.
func (h *held) take(ctx context.Context) error {
	select {
	case h.room <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTicker(crowdedFor)
	defer t.Stop()
	for {
		select {
		case h.room <- struct{}{}:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
			h.relieve()
		}
	}
}

func (h *held) give() { <-h.room }

func (h *held) relieve() {
	var victim *serving
	var since int64
	h.mu.Lock()
	for v := range h.all {
		if at := v.writing.Load(); at != 0 && (victim == nil || at < since) {
			victim, since = v, at
		}
	}
	h.mu.Unlock()
	if victim != nil && time.Since(time.Unix(0, since)) >= stalledFor {
		victim.end(errStalledReader)
	}
}
