package node

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"wanderfs/node/index"
)

func TestStandingQueries(t *testing.T) {
	dir := t.TempDir()
	setup := func(c *Config) { c.Data = dir }
	n := labNode(t, nil, setup)
	if err := n.Keep("free jazz"); err != nil {
		t.Fatal(err)
	}
	if err := n.Keep("Blue whale"); err != nil {
		t.Fatal(err)
	}
	if err := n.Keep("-only"); !errors.Is(err, index.ErrQuery) {
		t.Errorf("got %v, want ErrQuery", err)
	}
	n.Close()
	n = labNode(t, nil, setup)
	if got, want := n.Kept(), []string{"Blue whale", "free jazz"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := n.Drop("free jazz"); err != nil {
		t.Fatal(err)
	}
	if got := n.Kept(); len(got) != 1 {
		t.Errorf("got %d standing queries, want 1", len(got))
	}
}

// A search without a network ends with its context, and says why it is empty.
func TestSearchAlone(t *testing.T) {
	n := labNode(t, nil, nil)
	if _, err := n.Search(t.Context(), "min:10M film"); !errors.Is(err, index.ErrQuery) {
		t.Errorf("got %v, want ErrQuery", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	r, err := n.Search(ctx, "film")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if len(r.List()) != 0 || time.Since(begin) > 3*time.Second {
		t.Errorf("%d rows after %v", len(r.List()), time.Since(begin))
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := n.Search(ctx, "film"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
