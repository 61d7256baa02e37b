package node

import (
	"testing"
	"time"
)

func TestLifetime(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, mean := range []time.Duration{time.Nanosecond * 100, 20 * time.Second, time.Hour, 100 * time.Hour} {
		var sum, shortest, longest time.Duration
		ends := make(map[time.Duration]bool)
		const n = 2000
		for range n {
			l := newLifetime(now, mean)
			life := l.expires.Sub(l.born)
			if life < mean/2 || life > mean*3/2 {
				t.Fatalf("a life of %v at a mean of %v", life, mean)
			}
			if at := l.successor.Sub(l.born); at < life*85/100 || at > life*95/100+1 {
				t.Fatalf("the successor comes after %v of %v", at, life)
			}
			if l.drain > life/4 || l.drain > maxDrain || l.over().Sub(l.expires) != l.drain {
				t.Fatalf("%v to drain at a life of %v", l.drain, life)
			}
			sum += life
			if shortest == 0 || life < shortest {
				shortest = life
			}
			longest = max(longest, life)
			ends[l.over().Sub(l.born)] = true
		}
		if got := sum / n; got < mean*9/10 || got > mean*11/10 {
			t.Errorf("a mean life of %v, want %v", got, mean)
		}
		if shortest > mean*6/10 || longest < mean*14/10 {
			t.Errorf("lives from %v to %v at a mean of %v: not random enough", shortest, longest, mean)
		}
		if mean > time.Second && len(ends) < n*9/10 {
			t.Errorf("%d different ends of %d sessions", len(ends), n)
		}
	}
}
