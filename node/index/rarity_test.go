package index

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// TestRarestWordIsAsked: the first query of two words asks for the longer one
// and finds its list long; the next asks for the other, and finds what the
// first pages of the long list do not hold.
func TestRarestWordIsAsked(t *testing.T) {
	r := newTestRouter(t, 3, StoreConfig{})
	far := newAsker(r)
	for part := range slices.Chunk(postings(t, "gesellschaft", 300, q1h()), 100) {
		for _, id := range r.nodes {
			putTo(t, r.stores[id], part...)
		}
	}
	publish(t, far, item("gesellschaft xyz"))
	var asked []string
	spy := askerOf(func(ctx context.Context, req []byte) ([]byte, error) {
		g, err := parseGet(req)
		if err != nil {
			t.Error(err)
		}
		for _, w := range []string{"gesellschaft", "xyz", "abc"} {
			if keysOf(w).addr == g.Addr {
				asked = append(asked, fmt.Sprint(w, len(g.Tags)))
			}
		}
		return far.Ask(ctx, req)
	})
	ask := func(rarity *Rarity, query string, want string) {
		t.Helper()
		q, err := ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		q.Rarity = rarity
		asked = nil
		res, err := Search(t.Context(), testNet, spy, q)
		if err != nil || len(res) != 1 || res[0].Name != "gesellschaft xyz" {
			t.Errorf("got %d rows, %v, want the item", len(res), err)
		}
		if len(asked) == 0 || asked[0] != want {
			t.Errorf("got %q asked, want %q", asked, want)
		}
	}
	var rarity Rarity
	ask(&rarity, "xyz gesellschaft", "gesellschaft1")
	ask(&rarity, "xyz gesellschaft", "xyz1")
	ask(&rarity, "xyz gesellschaft", "xyz1")
	ask(nil, "xyz gesellschaft", "gesellschaft1")
}

// askerOf is a path made of a function.
type askerOf func(ctx context.Context, req []byte) ([]byte, error)

func (a askerOf) Ask(ctx context.Context, req []byte) ([]byte, error) { return a(ctx, req) }

func TestRarity(t *testing.T) {
	var r Rarity
	r.learn("common", 20_000)
	r.learn("rare", 3)
	r.learn("none", 0)
	for _, c := range []struct{ words, want []string }{
		{[]string{"common", "rare"}, []string{"rare", "common"}},
		{[]string{"common", "unknown"}, []string{"unknown", "common"}},
		{[]string{"unknown", "rare"}, []string{"rare", "unknown"}},
		{[]string{"none", "unknown"}, []string{"unknown", "none"}},
		{[]string{"none", "common"}, []string{"none", "common"}},
		{[]string{"unknown", "strange"}, []string{"unknown", "strange"}},
	} {
		given := slices.Clone(c.words)
		if got := r.order(given); !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
		if !slices.Equal(given, c.words) {
			t.Error("the query's own order was changed")
		}
	}
	for i := range 2 * maxRarity {
		r.learn(fmt.Sprint(i), 1)
	}
	if len(r.count) != maxRarity {
		t.Errorf("got %d words remembered, want %d", len(r.count), maxRarity)
	}
}
