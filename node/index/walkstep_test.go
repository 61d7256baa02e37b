package index

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
)

// TestWalkTellsNoStep: a super node on a walk sees the same whether the far end
// is the one before it or many steps away: the bytes are alike but for the tags,
// and these look random at each step. What they tell to who knows the network
// and computes the tags of all nodes is measured, and stated in PROTOCOL.md.
func TestWalkTellsNoStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newWanderNet(rand.New(rand.NewPCG(7, 7)))
		n.keep = true
		wanderTries(t, n, rand.New(rand.NewPCG(8, 8)), 150, true, 0)
		type seen struct{ n, on, sum, bytes, tagged float64 }
		var at [2]seen // from the far end; from a super node
		head := n.requests[0][:2]
		for i, b := range n.requests {
			w, err := parseWalk(b)
			if err != nil || len(b) != walkLength || !bytes.Equal(b[:2], head) {
				t.Fatalf("request %d looks different: %v", i, err)
			}
			s := &at[min(1, n.places[i]-1)]
			s.n++
			if w.On {
				s.on++
			}
			for _, tag := range w.Asked {
				if tag == [askedTag]byte{} {
					t.Errorf("request %d of step %d has an empty place", i, n.places[i])
				}
				for _, x := range tag {
					s.sum += float64(x)
					s.bytes++
				}
			}
			for _, id := range n.ids {
				if w.was(id) {
					s.tagged++
				}
			}
		}
		first, later := at[0], at[1]
		if first.n < 200 || later.n < 200 {
			t.Fatalf("%v first steps and %v later ones are too few", first.n, later.n)
		}
		p := (first.on + later.on) / (first.n + later.n)
		z := (first.on/first.n - later.on/later.n) / math.Sqrt(p*(1-p)*(1/first.n+1/later.n))
		if math.Abs(z) > 6 || p == 1 {
			t.Errorf("first steps may go on in %.3f, later ones in %.3f of cases: %.1f standard deviations", first.on/first.n, later.on/later.n, z)
		}
		z = (first.sum/first.bytes - later.sum/later.bytes) / (73.9 * math.Sqrt(1/first.bytes+1/later.bytes))
		if math.Abs(z) > 6 {
			t.Errorf("tags differ in their mean by %.1f standard deviations", z)
		}
		t.Logf("%v first and %v later steps; %.1f and %.1f nodes are tagged on average", first.n, later.n, first.tagged/first.n, later.tagged/later.n)
	})
}
