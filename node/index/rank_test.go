package index

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"wanderfs/cache/chunk"
)

func markOf(s string) sourceMark { k := key(s); return sourceMark(k[:]) }

func key(s string) [32]byte { return mac([32]byte{}, []byte(s)) }

func TestRankMerges(t *testing.T) {
	q, _ := ParseQuery("song")
	rk := newRanking(q)
	end := time.Now().Add(PostingLife)
	a, b := item("song"), item("song other")
	lie := a
	lie.Name, lie.Size = "song lie", 5
	rk.add(a, markOf("1"), key("1"), end)
	rk.add(a, markOf("1"), key("1"), end) // twice by one key counts once
	rk.add(a, markOf("2"), key("2"), end)
	rk.add(lie, markOf("3"), key("3"), end)
	rk.add(b, markOf("4"), key("4"), end)
	rk.add(item("song gone"), markOf("5"), key("5"), time.Now().Add(-time.Second))
	rows := rk.rows()
	if len(rows) != 2 {
		t.Fatalf("got %d rows, want 2", len(rows))
	}
	want := chunk.Result{Name: a.Name, Ref: a.Ref, Kind: a.Kind, Size: a.Size, Sources: 3}
	if rows[0] != want {
		t.Errorf("the best row is not what most say")
	}
}

// TestRankSplitsWeight: a key that names a hundred things for one query does
// not put them above what two keys name alone.
func TestRankSplitsWeight(t *testing.T) {
	q, _ := ParseQuery("song")
	rk := newRanking(q)
	end := time.Now().Add(PostingLife)
	for i := range 100 {
		for _, k := range []string{"f1", "f2", "f3"} {
			rk.add(item(fmt.Sprint("song ", i)), markOf(k), key(k), end)
		}
	}
	good := item("song true")
	rk.add(good, markOf("a"), key("a"), end)
	rk.add(good, markOf("b"), key("b"), end)
	if rows := rk.rows(); rows[0].Ref != good.Ref || len(rows) != 101 {
		t.Errorf("fakes with three keys stand above the genuine one")
	}
}

// TestRestartedPublisherIsOneSource: what one group publishes again under new
// batch keys is one source, two groups are two, and nobody but who guesses
// the word can read the mark by which this is known.
func TestRestartedPublisherIsOneSource(t *testing.T) {
	r := newTestRouter(t, 5, StoreConfig{})
	a := newAsker(r)
	it, other := item("song true"), item("song other")
	told := func(g Group, it Item) []Record {
		t.Helper()
		b, err := g.NewBatch()
		if err != nil {
			t.Fatal(err)
		}
		return put(t, a, b, it)
	}
	sources := func(it Item) int {
		for _, row := range search(t, a, "song") {
			if row.Ref == it.Ref {
				return row.Sources
			}
		}
		return 0
	}
	one, _ := NewGroup(testNet)
	two, _ := NewGroup(testNet)
	first := told(one, it)
	kept, _ := one.MarshalBinary() // a restart
	again, err := UnmarshalGroup(testNet, kept)
	if err != nil {
		t.Fatal(err)
	}
	second := told(again, it)
	renamed := it
	renamed.Name = "song true, renamed"
	told(again, renamed)
	if got := sources(it); got != 1 {
		t.Errorf("one publisher, three times: got %d sources, want 1", got)
	}
	told(two, it)
	if got := sources(it); got != 2 {
		t.Errorf("two publishers: got %d sources, want 2", got)
	}
	told(one, other)
	if got := sources(other); got != 1 {
		t.Errorf("another item: got %d sources, want 1", got)
	}
	if one.mark(it.Ref.Multihash()) == one.mark(other.Ref.Multihash()) || one.mark(it.Ref.Multihash()) == two.mark(it.Ref.Multihash()) {
		t.Error("marks of two contents or two groups are the same")
	}
	for i := range first {
		if first[i].key() == second[i].key() {
			t.Error("two batches have one key")
		}
		if slices.Equal(first[i].sealed(), second[i].sealed()) || slices.Equal(first[i].tags(), second[i].tags()) {
			t.Error("two batches show that they hold the same")
		}
	}
}

func TestRankSeed(t *testing.T) {
	end := time.Now().Add(PostingLife)
	order := func(seed byte) []chunk.Result {
		q, _ := ParseQuery("song")
		q.Seed[0] = seed
		rk := newRanking(q)
		for i := range 50 {
			rk.add(item(fmt.Sprintf("song %02d", i)), markOf(fmt.Sprint(i)), key(fmt.Sprint(i)), end)
		}
		return rk.rows()
	}
	if !slices.Equal(order(1), order(1)) {
		t.Errorf("one seed gives two orders")
	}
	if slices.Equal(order(1), order(2)) {
		t.Errorf("two seeds give one order")
	}
}

// TestRankSamples: every second row is drawn, so that what scores low is seen
// near the top under some seed.
func TestRankSamples(t *testing.T) {
	end := time.Now().Add(PostingLife)
	low := item("song with a name of very many other words")
	seen := 0
	for seed := range 200 {
		q, _ := ParseQuery("song")
		q.Seed[0] = byte(seed)
		rk := newRanking(q)
		for i := range 40 {
			rk.add(item(fmt.Sprint("song ", i)), markOf(fmt.Sprint("x", i)), key(fmt.Sprint("x", i)), end)
		}
		rk.add(low, markOf("low"), key("low"), end)
		if i := slices.IndexFunc(rk.rows(), func(r chunk.Result) bool { return r.Ref == low.Ref }); i < 10 {
			seen++
		}
	}
	if seen < 8 || seen > 60 {
		t.Errorf("a low row is among the first ten %d times of 200, want about 24", seen)
	}
}
