package fetch

import (
	"context"
	"errors"
	"time"

	"wanderfs/cache/chunk"
)

// ErrRebuilds says that paths of a task failed too often of late: a route may
// not draw other relays for it yet. Its Dial returns it; the task tries again
// when it may, and uses other routes meanwhile.
var ErrRebuilds = errors.New("too many paths failed of late, so no new relays are drawn for a while")

// taskKey in a dial's context is its task.
type taskKey struct{}

// Draw must be called by a Route's Dial, with its context, for each relay that
// it is about to draw because a path failed: who fails paths on purpose, in
// order to be drawn himself one day, gets Config.Rebuilds tries in
// Config.RebuildSpan. ErrRebuilds says that there is none left.
func Draw(ctx context.Context) error {
	t, _ := ctx.Value(taskKey{}).(*Task)
	if t == nil || t.f.draw(t.root, time.Now()) {
		return nil
	}
	return ErrRebuilds
}

// draw takes one of root's draws. They are counted here, and not in the task,
// which a reader may end and begin again.
func (f *Fetcher) draw(root chunk.Ref, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r, times := range f.draws {
		for len(times) > 0 && now.Sub(times[0]) >= f.cfg.RebuildSpan {
			times = times[1:]
		}
		if f.draws[r] = times; len(times) == 0 {
			delete(f.draws, r)
		}
	}
	if len(f.draws[root]) >= f.cfg.Rebuilds {
		return false
	}
	f.draws[root] = append(f.draws[root], now)
	return true
}

// drawAgain returns when root may draw again.
func (f *Fetcher) drawAgain(root chunk.Ref) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if times := f.draws[root]; len(times) >= f.cfg.Rebuilds {
		return times[0].Add(f.cfg.RebuildSpan)
	}
	return time.Time{}
}
