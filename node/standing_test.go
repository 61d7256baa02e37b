package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache"
)

// asked is when one standing query was asked.
type asked struct {
	query int
	at    time.Duration // since the start
}

// standingFaults holds the times of standing queries against what DESIGN's
// isolation asks for: exponential pauses, each query on a clock of its own, no
// burst at the start.
func standingFaults(times []asked, queries int, mean, observed time.Duration) (out []string) {
	slices.SortFunc(times, func(a, b asked) int { return cmp.Compare(a.at, b.at) })
	rate := float64(queries) / mean.Seconds() // of all together, a second
	early := 0
	last := make(map[int]time.Duration)
	var pauses []float64
	close := 0 // to another query's asking
	for i, a := range times {
		if a.at < time.Minute {
			early++
		}
		pauses = append(pauses, (a.at - last[a.query]).Seconds())
		last[a.query] = a.at
		if i > 0 && a.at-times[i-1].at < time.Second {
			close++
		}
	}
	if want := rate * 60; float64(early) > want+5*math.Sqrt(want)+1 {
		out = append(out, fmt.Sprintf("%d askings in the first minute, want about %.0f", early, want))
	}
	if want := rate * observed.Seconds(); math.Abs(float64(len(times))-want) > want/10 {
		out = append(out, fmt.Sprintf("%d askings, want about %.0f", len(times), want))
	}
	// Kolmogorov's distance of the pauses from the exponential distribution.
	slices.Sort(pauses)
	far := 0.0
	for i, p := range pauses {
		far = max(far, math.Abs(float64(i)/float64(len(pauses))-(1-math.Exp(-p/mean.Seconds()))))
	}
	if far > 0.03 {
		out = append(out, fmt.Sprintf("pauses are %.3f from exponential", far))
	}
	want := 1 - math.Exp(-rate)
	if got := float64(close) / float64(len(times)); math.Abs(got-want) > want/3 {
		out = append(out, fmt.Sprintf("%.3f of the askings fall together, want %.3f", got, want))
	}
	return out
}

// noPaths gives none, and notes when it was asked for one.
type noPaths struct {
	begin time.Time
	mu    sync.Mutex
	times []time.Duration
}

func (p *noPaths) take(context.Context) (*ownPath, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times = append(p.times, time.Since(p.begin))
	return nil, errClosed
}

func (p *noPaths) seen() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.times)
}

// Standing queries go out on clocks of their own.
func TestStandingQueriesDoNotMeet(t *testing.T) {
	const observed = 200 * time.Hour
	c, err := cache.Open(cache.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	synctest.Test(t, func(t *testing.T) {
		var times []asked
		var ss []*searcher
		var ps []*noPaths
		for i := range maxStanding { // a searcher each, so that the askings are told apart
			p := &noPaths{begin: time.Now()}
			s := newSearcher("test", p, c, slog.New(slog.DiscardHandler))
			s.stand(fmt.Sprintf("query%d", i))
			ss, ps = append(ss, s), append(ps, p)
		}
		time.Sleep(observed)
		for i := range ss {
			ss[i].Close()
			for _, at := range ps[i].seen() {
				times = append(times, asked{i, at})
			}
		}
		for _, fault := range standingFaults(times, maxStanding, standingEvery, observed) {
			t.Error(fault)
		}
	})

	// All of one node's together, after a restart: no burst.
	if err := c.Seal(standingName, []byte(`["one","two","three","four"]`)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := &noPaths{begin: time.Now()}
		s := newSearcher("test", p, c, slog.New(slog.DiscardHandler))
		synctest.Wait()
		if got := len(s.kept()); got != 4 {
			t.Errorf("%d queries were kept", got)
		}
		if got := len(p.seen()); got > 0 {
			t.Errorf("%d queries went out at the start", got)
		}
		time.Sleep(10 * standingEvery)
		s.Close()
		if got := len(p.seen()); got < 4 {
			t.Errorf("%d askings of 4 queries in 10 mean pauses", got)
		}
	})
}

// Other ways to run them are told from that one.
func TestStandingFaults(t *testing.T) {
	const n, mean, observed = 64, 15 * time.Minute, 200 * time.Hour
	times := func(pause func(query int, first bool) time.Duration) (out []asked) {
		for q := range n {
			for at := pause(q, true); at < observed; at += pause(q, false) {
				out = append(out, asked{q, at})
			}
		}
		return out
	}
	exp := func() time.Duration { return time.Duration(rand.ExpFloat64() * float64(mean)) }
	shared := make([]time.Duration, 2000) // one clock for all
	for i := range shared {
		shared[i] = exp()
	}
	steps := make([]int, n)
	for name, x := range map[string]struct {
		pause func(int, bool) time.Duration
		bad   bool
	}{
		"as it should be": {func(int, bool) time.Duration { return exp() }, false},
		"burst at start": {func(_ int, first bool) time.Duration {
			if first {
				return time.Second
			}
			return exp()
		}, true},
		"even pauses": {func(int, bool) time.Duration { return mean/2 + rand.N(mean) }, true},
		"one clock": {func(q int, _ bool) time.Duration {
			steps[q]++
			return shared[steps[q]-1]
		}, true},
	} {
		if got := standingFaults(times(x.pause), n, mean, observed); len(got) > 0 != x.bad {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
