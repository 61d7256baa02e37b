package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// workers lets a bounded number of handshakes be computed at a time and a
// second. Who waits is served in turn, origin by origin and within one
// neighbour by neighbour, so that who sends many waits for himself.
type workers struct {
	pace *rate.Limiter // nil: no bound a second

	mu    sync.Mutex
	free  int         // guarded by mu
	turn  []*origin   // those in whose name somebody waits, next one first; guarded by mu
	timer *time.Timer // grants when the pace allows it; guarded by mu
}

// enter waits for a worker; leave gives it back.
func (w *workers) enter(ctx context.Context, nb *neighbour) error {
	granted := make(chan struct{})
	w.mu.Lock()
	if nb.waiting = append(nb.waiting, granted); len(nb.waiting) == 1 {
		if nb.from.turn = append(nb.from.turn, nb); len(nb.from.turn) == 1 {
			w.turn = append(w.turn, nb.from)
		}
	}
	w.grantLocked()
	w.mu.Unlock()
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(nb.waiting, granted)
	if i < 0 { // it was granted just then
		w.free++
		w.grantLocked()
		return ctx.Err()
	}
	nb.waiting = slices.Delete(nb.waiting, i, i+1)
	if o := nb.from; len(nb.waiting) == 0 {
		o.turn = slices.DeleteFunc(o.turn, func(x *neighbour) bool { return x == nb })
		if len(o.turn) == 0 {
			w.turn = slices.DeleteFunc(w.turn, func(x *origin) bool { return x == o })
		}
	}
	return ctx.Err()
}

func (w *workers) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free++
	w.grantLocked()
}

// grantLocked lets in who is next while there is a worker and the pace allows.
func (w *workers) grantLocked() {
	for w.free > 0 && len(w.turn) > 0 {
		if w.pace != nil && !w.pace.Allow() {
			w.laterLocked()
			return
		}
		o := w.turn[0]
		w.turn = slices.Delete(w.turn, 0, 1)
		nb := o.turn[0]
		o.turn = slices.Delete(o.turn, 0, 1)
		close(nb.waiting[0])
		w.free--
		if nb.waiting = slices.Delete(nb.waiting, 0, 1); len(nb.waiting) > 0 {
			o.turn = append(o.turn, nb)
		}
		if len(o.turn) > 0 {
			w.turn = append(w.turn, o)
		}
	}
}

// laterLocked grants again when the pace allows another one.
func (w *workers) laterLocked() {
	if w.pace.Limit() <= 0 {
		return
	}
	d := time.Duration((1 - w.pace.Tokens()) / float64(w.pace.Limit()) * float64(time.Second))
	d = max(d, time.Millisecond)
	if w.timer != nil {
		w.timer.Reset(d)
		return
	}
	w.timer = time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.grantLocked()
	})
}
