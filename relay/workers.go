package relay

import (
	"context"
	"slices"
	"sync"
)

// workers lets a bounded number of handshakes be computed at a time. Who
// waits is served in turn, neighbour by neighbour, so that a neighbour that
// sends many waits for itself.
type workers struct {
	mu   sync.Mutex
	free int
	turn []*neighbour // those in whose name somebody waits, next one first
}

// enter waits for a worker; leave gives it back.
func (w *workers) enter(ctx context.Context, nb *neighbour) error {
	w.mu.Lock()
	if w.free > 0 {
		w.free--
		w.mu.Unlock()
		return nil
	}
	granted := make(chan struct{})
	if nb.waiting = append(nb.waiting, granted); len(nb.waiting) == 1 {
		w.turn = append(w.turn, nb)
	}
	w.mu.Unlock()
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	i := slices.Index(nb.waiting, granted)
	if i >= 0 {
		if nb.waiting = slices.Delete(nb.waiting, i, i+1); len(nb.waiting) == 0 {
			w.turn = slices.DeleteFunc(w.turn, func(x *neighbour) bool { return x == nb })
		}
	}
	w.mu.Unlock()
	if i < 0 { // it was granted just then
		w.leave()
	}
	return ctx.Err()
}

func (w *workers) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.turn) == 0 {
		w.free++
		return
	}
	nb := w.turn[0]
	w.turn = slices.Delete(w.turn, 0, 1)
	close(nb.waiting[0])
	if nb.waiting = slices.Delete(nb.waiting, 0, 1); len(nb.waiting) > 0 {
		w.turn = append(w.turn, nb)
	}
}
