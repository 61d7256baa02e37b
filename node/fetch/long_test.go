package fetch

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A long path is kept full: what is outstanding grows to rate x round trip.
func TestFillsLongPaths(t *testing.T) {
	c := newContent(t, 128<<20, 50)
	for _, x := range []struct {
		routes int
		want   time.Duration
	}{{1, 11 * time.Second}, {2, 8 * time.Second}} {
		t.Run(fmt.Sprint(x.routes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var pubs []*publisher
				for range x.routes {
					p := newPublisher(t, c.blocks)
					p.latency, p.rate = 300*time.Millisecond, 20e6
					pubs = append(pubs, p)
				}
				within(t, Config{Store: newMemStore(), Routes: x.routes}, pubs, func(f *Fetcher) {
					start := time.Now()
					if err := c.readAll(t.Context(), f, 128<<10); err != nil {
						t.Fatal(err)
					}
					took := time.Since(start)
					t.Logf("128 MiB over %d routes of 20 MB/s, 0.6 s round trip: %v", x.routes, took)
					if took > x.want {
						t.Errorf("took %v, want at most %v", took, x.want)
					}
				})
			})
		})
	}
}
