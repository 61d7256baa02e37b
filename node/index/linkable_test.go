package index

import (
	"context"
	"encoding/binary"
	"testing"
	"time"
)

// startsSeen keeps where lists were entered.
type startsSeen struct {
	Asker
	seen map[recordID]int
}

func (a *startsSeen) Ask(ctx context.Context, req []byte) ([]byte, error) {
	if g, err := parseGet(req); err == nil {
		a.seen[g.Start]++
	}
	return a.Asker.Ask(ctx, req)
}

// A query that is asked again, over another path, does not show that it is the
// same user who asks.
func TestAskedAgainIsNotLinked(t *testing.T) {
	r := newTestRouter(t, 8, StoreConfig{})
	a := &startsSeen{newAsker(r), make(map[recordID]int)}
	publish(t, a.Asker, item("one"))
	q, err := ParseQuery("one")
	if err != nil {
		t.Fatal(err)
	}
	q.Seed[0] = 7
	for range 4 {
		rows, err := Search(t.Context(), testNet, a, q)
		if err != nil || len(rows) != 1 {
			t.Fatalf("got %d rows, %v", len(rows), err)
		}
	}
	if len(a.seen) != 4 {
		t.Errorf("4 searches were begun at %d places: one is known again by its place", len(a.seen))
	}
}

// The numbers of group records grow, also over a restart, and do not tell the
// time: how far a clock is off would show which groups are of one node.
func TestGroupNumbersTellNoTime(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	offsets := make(map[uint64]bool)
	for i := range 100 {
		g := Group{network: testNet, secret: key(string(rune('a' + i)))}
		b, _ := g.MarshalBinary()
		again, err := UnmarshalGroup(testNet, b)
		if err != nil {
			t.Fatal(err)
		}
		if g.Seq(now) >= again.Seq(now.Add(time.Millisecond)) {
			t.Fatal("a later number is not higher")
		}
		off := g.Seq(now) - uint64(now.UnixMilli())
		offsets[off/uint64(time.Hour/time.Millisecond)] = true // to the hour
		rec, err := g.Seal(source(1), g.Seq(now), q1h())
		if err != nil {
			t.Fatal(err)
		}
		if binary.BigEndian.Uint64(rec.b[offSeq:]) == uint64(now.UnixMilli()) {
			t.Error("the record tells the time")
		}
	}
	if len(offsets) < 98 {
		t.Errorf("100 groups have %d offsets", len(offsets))
	}
}
