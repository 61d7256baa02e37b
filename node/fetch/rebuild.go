package fetch

import (
	"context"
	"errors"
	"time"
)

// ErrRebuilds says that paths failed too often of late: a route may not draw
// other relays for them yet. Its Dial returns it where it has no relay left;
// the task tries again when it may, and uses other routes meanwhile.
var ErrRebuilds = errors.New("too many paths failed of late, so no new relays are drawn for a while")

// taskKey in a dial's or search's context is its task.
type taskKey struct{}

// Width is how many routes the task of a dial's context wants for its speed by
// now; 1 without a task. Failures do not change it: it grows when content has
// come.
func Width(ctx context.Context) int {
	t, _ := ctx.Value(taskKey{}).(*Task)
	if t == nil {
		return 1
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(1, t.width)
}

// Draw must be called, with the context of a Route's Dial or of Finder.Find,
// for each relay that is about to be drawn because a path failed, or may have:
// beyond what Width routes and one look-up need. Who fails paths on purpose, in
// order to be drawn himself one day, gets Config.Rebuilds tries in
// Config.RebuildSpan from all tasks together. ErrRebuilds says that there is
// none left.
func Draw(ctx context.Context) error {
	t, _ := ctx.Value(taskKey{}).(*Task)
	if t == nil || t.f.draw(time.Now()) {
		return nil
	}
	return ErrRebuilds
}

// draw takes one of the draws. They are counted here, and not in the task:
// whoever shares content that fails may share more of it, and a reader may end
// a task and begin it again.
func (f *Fetcher) draw(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.draws) > 0 && now.Sub(f.draws[0]) >= f.cfg.RebuildSpan {
		f.draws = f.draws[1:]
	}
	if len(f.draws) >= f.cfg.Rebuilds {
		return false
	}
	f.draws = append(f.draws, now)
	return true
}

// drawAgain returns when a relay may be drawn again; zero: now.
func (f *Fetcher) drawAgain() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.draws) >= f.cfg.Rebuilds {
		return f.draws[0].Add(f.cfg.RebuildSpan)
	}
	return time.Time{}
}
