package relay

import (
	"crypto/ed25519"
	crand "crypto/rand"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhoHasMost: whatever was opened and ended before, the stream that makes
// room at a relay full of them is the last one of a circuit of which a look at
// all shows that it has most, and nothing goes for one that would have as many.
func TestWhoHasMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLone(t)
		defer l.r.Close()
		l.r.limits, l.r.pool.limit = crowdLimits.WithDefaults(), 1<<40
		u := &churn{r: l.r, rng: rand.New(rand.NewPCG(7, 8)), links: map[*circuit]*heldLink{}}
		opened := map[*half]int{} // in which step
		var made, refused int
		for i := range 30_000 {
			time.Sleep(time.Nanosecond)
			u.bury(t)
			u.step(t)
			u.bury(t)
			for _, c := range u.circuits {
				if c.far == nil {
					continue
				}
				for _, h := range c.far.streams {
					if _, ok := opened[h]; !ok {
						opened[h] = i
					}
				}
			}
			e := u.pick().far
			if e == nil || u.rng.IntN(4) > 0 {
				continue
			}
			most, all := 0, 0
			for _, c := range u.circuits {
				if c.far != nil {
					most = max(most, len(c.far.streams))
					all += len(c.far.streams)
				}
			}
			if got := int(l.r.streams.Load()); got != all {
				t.Fatalf("step %d: %d streams are counted, want %d", i, got, all)
			}
			own := len(e.streams)
			had := map[*half]int{} // of those opened last
			for _, c := range u.circuits {
				if c.far == nil || len(c.far.streams) == 0 {
					continue
				}
				var last *half
				for _, h := range c.far.streams {
					if last == nil || opened[h] > opened[last] {
						last = h
					}
				}
				had[last] = len(c.far.streams)
			}
			l.r.limits.StreamsAll = all
			got := l.r.mayOpen(e)
			l.r.limits.StreamsAll = 1 << 30
			if got {
				l.r.streams.Add(-1) // it is not opened after all
			}
			if want := most > own+1; got != want {
				t.Fatalf("step %d: may open: %v, want %v: most are %d, its own %d", i, got, want, most, own)
			}
			gone, largest := 0, 0
			for h, n := range had {
				if h.gone {
					gone, largest = gone+1, max(largest, n)
				}
			}
			if !got {
				refused++
				if gone > 0 {
					t.Fatalf("step %d: %d streams went for nothing", i, gone)
				}
				continue
			}
			made++
			if largest != most {
				t.Fatalf("step %d: what went is the last of %d streams, want that of %d", i, largest, most)
			}
		}
		if made < 500 || refused < 500 {
			t.Errorf("room was made %d times and refused %d times, want more to judge by", made, refused)
		}
		t.Logf("room was made %d times and refused %d times", made, refused)
		for _, c := range u.circuits {
			c.end(nil)
			c.bury()
		}
		if got, open := len(l.r.crowded.heap), l.r.streams.Load(); got != 0 || open != 0 {
			t.Errorf("%d far ends and %d streams are left", got, open)
		}
	})
}

// BenchmarkOpenFull opens a stream at a relay that is full of them, six on each
// of 10 000 circuits.
func BenchmarkOpenFull(b *testing.B) {
	_, key, _ := ed25519.GenerateKey(crand.Reader)
	r, err := New(Config{Identity: key, Limits: crowdLimits})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	id := uint32(1)
	open := func(e *farEnd) *half {
		h := &half{far: e, id: id}
		id += 2
		if !h.enter(nil) {
			b.Fatal("no room for a stream")
		}
		return h
	}
	cs := make([]*circuit, 10_000)
	for i := range cs {
		c, _ := holder(b, r, i)
		c.far = newFarEnd(c)
		c.ends = c.far
		cs[i] = c
		for range 6 * min(i, 1) { // the first one has none
			open(c.far)
		}
	}
	r.limits.StreamsAll = int(r.streams.Load())
	b.ReportAllocs()
	for b.Loop() {
		most := r.crowded.most(cs[0].far)
		open(cs[0].far).vanish()
		open(most)
	}
	for _, c := range cs {
		c.end(nil)
		c.bury()
	}
}
