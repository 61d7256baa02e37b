package fetch

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache/chunk"
)

// forge makes p send wrong bytes.
func (p *publisher) forge(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lie = nil
	if on {
		p.lie = func(_ chunk.Ref, b []byte) []byte {
			b = bytes.Clone(b)
			b[len(b)-1] ^= 1
			return b
		}
	}
}

// Who has heard from every source that it does not hold a chunk, or has been
// lied to, need not wait for the deadlines of silence.
func TestRefutedSourcesFailAtOnce(t *testing.T) {
	c := newContent(t, 3<<20, 60)
	for _, x := range []struct {
		name         string
		liars, empty int
		want         error
		says         string
	}{
		{"a liar", 1, 0, ErrStalled, "sent wrong data"},
		{"liars", 3, 0, ErrStalled, "sent wrong data"},
		{"not held", 0, 1, ErrNotFound, "no source has this part"},
		{"both", 2, 2, ErrStalled, "some sources sent wrong data"},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var pubs []*publisher
				for i := range x.liars + x.empty {
					p := newPublisher(t, c.blocks)
					p.forge(true)
					if i >= x.liars {
						p = newPublisher(t, nil)
					}
					p.latency, p.rate = 100*time.Millisecond, 5e6
					pubs = append(pubs, p)
				}
				within(t, Config{Store: newMemStore()}, pubs, func(f *Fetcher) {
					start := time.Now()
					_, err := f.Open(t.Context(), c.root, c.root)
					took := time.Since(start)
					if !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) {
						t.Errorf("got %v, want %v that says %q", err, x.want, x.says)
					}
					if got := f.State(c.root).Err; !strings.Contains(got, x.says) {
						t.Errorf("the state says %q, want %q in it", got, x.says)
					}
					if took > 4*time.Second {
						t.Errorf("took %v, want no waiting for a deadline", took)
					}
				})
			})
		})
	}
}

// An honest source that comes later is used by the next read, and is waited
// for while nobody can tell whether there is one.
func TestHonestSourceAfterLiars(t *testing.T) {
	c := newContent(t, 3<<20, 61)
	synctest.Test(t, func(t *testing.T) {
		liar, good := newPublisher(t, c.blocks), newPublisher(t, c.blocks)
		liar.forge(true)
		pubs := []*publisher{liar, good}
		fd := found(liar)
		within(t, Config{Store: newMemStore(), Finder: fd}, pubs, func(f *Fetcher) {
			if err := c.readAll(t.Context(), f, 1<<20); !errors.Is(err, ErrStalled) {
				t.Errorf("got %v from a liar, want %v", err, ErrStalled)
			}
			fd.mu.Lock()
			fd.routes = []Route{liar, good}
			fd.mu.Unlock()
			start := time.Now()
			if err := c.readAll(t.Context(), f, 1<<20); err != nil {
				t.Errorf("with an honest source, too: %v", err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if got := f.State(c.root).Err; got != "" {
				t.Errorf("the state still says %q", got)
			}
		})
	})
	synctest.Test(t, func(t *testing.T) {
		liar, good := newPublisher(t, c.blocks), newPublisher(t, c.blocks)
		liar.forge(true)
		pubs := []*publisher{liar, good}
		fd := &finder{fn: func(call int) ([]Route, error) {
			switch {
			case call == 1:
				return []Route{liar}, nil
			case call < 4:
				return nil, errFake // no path for looking up: that tells nothing
			}
			return []Route{good}, nil
		}}
		within(t, Config{Store: newMemStore(), Finder: fd}, pubs, func(f *Fetcher) {
			if err := c.readAll(t.Context(), f, 1<<20); err != nil {
				t.Errorf("with an honest source found late: %v", err)
			}
		})
	})
}
