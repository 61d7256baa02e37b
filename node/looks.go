package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"wanderfs/node/fetch"
	"wanderfs/relay/wire"
)

// freeLooks is how many far ends a task may ask in ten minutes, one after the
// other, as long as none of them knows a source; ours. Then nobody knows of the
// task who could fail its paths.
const freeLooks = 3

// looks is where a reading task has looked for sources. Who has once found some
// looks again over the same relays: that his paths to them fail is not the far
// end's fault, and shall not draw others.
type looks struct {
	hops  []wire.Descriptor // of the last path; nil: none; never handed out, since it is brought up to date
	found bool              // once
	lame  bool              // the last time there was no answer, or no source
	drawn []time.Time       // of late, the oldest first
}

// lookPath gives a path for a look-up of the legs' task: a spare one, or one
// over the same relays as last time.
func (f *finder) lookPath(ctx context.Context, l *legs) (*ownPath, error) {
	again := l.look(ctx)
	if again == nil {
		p, err := f.pool.take(ctx)
		if err == nil {
			l.looked(p.hops)
		}
		return p, err
	}
	p, err := f.paths.through(ctx, purposeLookup, again, true)
	if err != nil {
		l.found(false)
	}
	return p, err
}

// look gives the relays to look up over; nil: any. A relay that is not known
// any more costs a draw as one that does not answer; but none is drawn while it
// may be this node that is cut off.
func (l *legs) look(ctx context.Context) []wire.Descriptor {
	b := l.book
	b.mu.Lock()
	defer b.mu.Unlock()
	k, now := &l.looks, time.Now()
	for len(k.drawn) > 0 && now.Sub(k.drawn[0]) >= legsIdle {
		k.drawn = k.drawn[1:]
	}
	usable := k.hops != nil && b.refresh(k.hops) < 0
	switch {
	case k.hops == nil, !k.found && k.lame && len(k.drawn) < freeLooks:
	case usable && (!k.lame || !k.found), b.doubt():
		return slices.Clone(k.hops)
	default:
		b.mu.Unlock()
		err := fetch.Draw(ctx)
		b.mu.Lock()
		if errors.Is(err, fetch.ErrRebuilds) {
			return slices.Clone(k.hops)
		}
	}
	k.drawn = append(k.drawn, now)
	return nil
}

// looked notes over which relays a look-up goes.
func (l *legs) looked(hops []wire.Descriptor) {
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	l.looks.hops = slices.Clone(hops)
}

// found notes whether a look-up has found sources.
func (l *legs) found(any bool) {
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	l.looks.lame = !any
	l.looks.found = l.looks.found || any
}
