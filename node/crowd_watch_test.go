package node

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// watching is honest readers who take what comes at a rate, until the process
// ends, whatever happens beside them.
type watching struct {
	n     []atomic.Int64 // bytes, by reader
	last  []int64
	since time.Time

	mu  sync.Mutex
	why map[string]int // of readers whose stream broke; guarded by mu
}

// start lets N readers begin.
func (w *watching) start(ctx context.Context, u *users, q crowdAsk) error {
	w.n, w.last, w.since = make([]atomic.Int64, q.N), make([]int64, q.N), time.Now()
	w.why = make(map[string]int)
	for i := range q.N {
		p, c, err := u.join(ctx, q, i, nil)
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			pace := rate.NewLimiter(rate.Limit(q.Rate), 64<<10)
			for b := make([]byte, 16<<10); ; {
				m, err := c.Read(b)
				w.n[i].Add(int64(m))
				if err != nil {
					w.mu.Lock()
					defer w.mu.Unlock()
					w.why[fmt.Sprintf("%v; path: %v", err, p.Err())]++
					return
				}
				if pace.WaitN(context.Background(), m) != nil {
					return
				}
			}
		}()
	}
	return nil
}

// rates gives the bytes a second of each: in the time that comes, or, if that
// is 0, since it was last asked. It tells why some get nothing any more.
func (w *watching) rates(in time.Duration) (rates []float64, why map[string]int) {
	if in > 0 {
		w.rates(0)
		<-time.After(in)
	}
	passed := time.Since(w.since)
	w.since = time.Now()
	for i := range w.n {
		n := w.n[i].Load()
		rates = append(rates, float64(n-w.last[i])/passed.Seconds())
		w.last[i] = n
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return rates, maps.Clone(w.why)
}
