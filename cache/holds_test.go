package cache

import (
	"errors"
	"testing"

	"wanderfs/cache/chunk"
)

// What is held in a round stays, over restarts too, until a later round is
// swept in which it was not held.
func TestHolds(t *testing.T) {
	const n = 4096
	cfg := Config{Dir: t.TempDir(), Limit: 100 * n, MinFree: -1}
	c := open1(t, cfg)
	var refs []chunk.Ref
	round := c.Round()
	for i := range uint64(20) {
		r, data := block(i, n)
		if first, err := c.Hold(r, round); !first || err != nil {
			t.Fatalf("first hold: got %v, %v", first, err)
		}
		if first, err := c.Hold(r, round); first || err != nil {
			t.Fatalf("second hold in a round: got %v, %v", first, err)
		}
		if err := c.Put(r, data); err != nil {
			t.Fatal(err)
		}
		refs = append(refs, r)
	}
	c.Pin(refs[0])
	flood := func(from uint64) {
		t.Helper()
		for i := range uint64(500) {
			put(t, c, from+i, n)
		}
	}
	check := func(what string, from, to int, want bool) {
		t.Helper()
		for i := from; i < to; i++ {
			if got := c.Has(refs[i]); got != want {
				t.Errorf("%s: chunk %d is here: %v, want %v", what, i, got, want)
			}
		}
	}
	flood(1000)
	check("held", 0, 20, true)
	if c.Pinned(refs[1]) || len(c.Pins()) != 1 {
		t.Error("a hold counts as a pin")
	}
	_ = c.Close()
	c = open1(t, cfg)
	flood(2000)
	check("after reopening", 0, 20, true)
	if got, want := c.Stats().Pinned, int64(20*n); got != want {
		t.Errorf("got %d bytes pinned, want %d", got, want)
	}
	round = c.Round()
	for _, r := range refs[5:10] {
		if first, err := c.Hold(r, round); !first || err != nil {
			t.Fatalf("hold in a new round: got %v, %v", first, err)
		}
	}
	if got := c.Sweep(round); got != 15 {
		t.Errorf("swept %d, want 15", got)
	}
	flood(3000)
	check("pinned", 0, 1, true)
	check("not held again", 1, 5, false)
	check("held again", 5, 10, true)
	check("not held again", 10, 20, false)
	_ = c.Close()
	c = open1(t, cfg)
	flood(4000)
	check("pinned", 0, 1, true)
	check("held again", 5, 10, true)
	if got, want := c.Stats().Pinned, int64(6*n); got != want {
		t.Errorf("got %d bytes pinned, want %d", got, want)
	}
	// Unpinning what is held, too, keeps it; and the other way round.
	c.Pin(refs[5])
	c.Unpin(refs[5])
	c.Sweep(c.Round())
	if got, want := c.Stats().Pinned, int64(n); got != want {
		t.Errorf("got %d bytes pinned, want the pin's %d", got, want)
	}
	c.Unpin(refs[0])
	if got := c.Stats().Pinned; got != 0 {
		t.Errorf("got %d bytes pinned at the end", got)
	}
}

// Letting go of many chunks at once writes the log once, and the number of
// holds is bounded.
func TestHoldsAreBounded(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	c := open1(t, cfg)
	round := c.Round()
	for i := range uint64(2*pinSlack + 10) {
		r, _ := block(i, 10)
		if _, err := c.Hold(r, round); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := c.Sweep(c.Round()), 2*pinSlack+10; got != want {
		t.Errorf("swept %d, want %d", got, want)
	}
	if got := c.pins.records; got != 0 {
		t.Errorf("%d records are left", got)
	}
	c.quota.held = maxHeld
	r, _ := block(1, 10)
	if _, err := c.Hold(r, round); !errors.Is(err, ErrTooMany) {
		t.Errorf("got %v, want %v", err, ErrTooMany)
	}
	c.quota.held = 0
}
