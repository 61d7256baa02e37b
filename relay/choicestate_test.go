package relay

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestChoiceState(t *testing.T) {
	tn := newTown(100)
	c := tn.chooser(t, 1, nil)
	must(t, c, tn.field(), Want{Hops: 4})
	tn.pass(c, 3*day)
	for i := range 40 {
		c.Built(c.entries[0].Node, i%3 > 0)
		c.Served(c.entries[1].Node, i%5 > 0)
	}
	b := c.State()
	d := tn.chooser(t, 2, b)
	if got := d.State(); !bytes.Equal(got, b) {
		t.Errorf("state changes by being read:\n%s\n%s", b, got)
	}
	if len(d.known) != 64 || len(d.entries) != 2 || len(d.second) != 4 || d.entries[0].Tries != 40 {
		t.Errorf("got %d watched, %d entries, %d second relays", len(d.known), len(d.entries), len(d.second))
	}
}

func TestDamagedChoiceState(t *testing.T) {
	tn := newTown(20)
	c := tn.chooser(t, 1, nil)
	must(t, c, tn.field(), Want{Hops: 3})
	good := c.State()
	for _, b := range [][]byte{
		good[:len(good)/2], []byte("{}"), []byte("null"), {0},
		bytes.Replace(good, []byte(`"version":1`), []byte(`"version":2`), 1),
		bytes.Replace(good, []byte(`"node":"0`), []byte(`"node":"x`), 1),
		bytes.Replace(good, []byte(`"tries":0`), []byte(`"tries":-1`), 1),
		make([]byte, maxChoice+1),
	} {
		c, err := NewChooser(tn.config(2), b)
		if !errors.Is(err, ErrChoiceState) {
			t.Errorf("got %v for damaged state", err)
		}
		must(t, c, tn.field(), Want{Hops: 3}) // anew
	}
}

// Times from a clock that was far ahead pin nobody for longer than usual.
func TestChoiceStateFromTheFuture(t *testing.T) {
	tn := newTown(30)
	tn.now = tn.now.Add(20 * 365 * day)
	c := tn.chooser(t, 1, nil)
	must(t, c, tn.field(), Want{Hops: 3})
	b := c.State()
	tn.now = tn.now.Add(-20 * 365 * day)
	c = tn.chooser(t, 2, b)
	for _, e := range c.entries {
		if e.Until.After(tn.now.Add(120*day)) || e.Since.After(tn.now) {
			t.Errorf("pinned until %v", e.Until)
		}
	}
}

func FuzzChoiceState(f *testing.F) {
	tn := newTown(20)
	c := tn.chooser(f, 1, nil)
	if _, err := c.Choose(tn.field(), Want{Hops: 3}); err != nil {
		f.Fatal(err)
	}
	f.Add(c.State())
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := NewChooser(tn.config(2), b)
		if err != nil && !errors.Is(err, ErrChoiceState) {
			t.Errorf("got %v", err)
		}
		c.Choose(tn.field(), Want{Hops: 3})
		c.Watch(tn.field(), time.Hour)
		if _, err := NewChooser(tn.config(3), c.State()); err != nil {
			t.Errorf("what was made of it cannot be read: %v", err)
		}
	})
}
