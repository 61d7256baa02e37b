package index

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"wanderfs/cache/chunk"
)

func key(s string) [32]byte { return mac([32]byte{}, []byte(s)) }

func TestRankMerges(t *testing.T) {
	q, _ := ParseQuery("song")
	rk := newRanking(q)
	end := time.Now().Add(PostingLife)
	a, b := item("song"), item("song other")
	lie := a
	lie.Name, lie.Size = "song lie", 5
	rk.add(a, key("1"), end)
	rk.add(a, key("1"), end) // twice by one key counts once
	rk.add(a, key("2"), end)
	rk.add(lie, key("3"), end)
	rk.add(b, key("4"), end)
	rk.add(item("song gone"), key("5"), time.Now().Add(-time.Second))
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
			rk.add(item(fmt.Sprint("song ", i)), key(k), end)
		}
	}
	good := item("song true")
	rk.add(good, key("a"), end)
	rk.add(good, key("b"), end)
	if rows := rk.rows(); rows[0].Ref != good.Ref || len(rows) != 101 {
		t.Errorf("fakes with three keys stand above the genuine one")
	}
}

func TestRankSeed(t *testing.T) {
	end := time.Now().Add(PostingLife)
	order := func(seed byte) []chunk.Result {
		q, _ := ParseQuery("song")
		q.Seed[0] = seed
		rk := newRanking(q)
		for i := range 50 {
			rk.add(item(fmt.Sprintf("song %02d", i)), key(fmt.Sprint(i)), end)
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
			rk.add(item(fmt.Sprint("song ", i)), key(fmt.Sprint("x", i)), end)
		}
		rk.add(low, key("low"), end)
		if i := slices.IndexFunc(rk.rows(), func(r chunk.Result) bool { return r.Ref == low.Ref }); i < 10 {
			seen++
		}
	}
	if seen < 8 || seen > 60 {
		t.Errorf("a low row is among the first ten %d times of 200, want about 24", seen)
	}
}
