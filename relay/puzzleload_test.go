package relay

import (
	"context"
	"runtime"
	"testing"

	"wanderfs/relay/wire"
)

// TestPuzzleGivesWay: while a puzzle is solved all other work goes on, as soon as
// it is there. Else the relay of a reader's node would be slow whenever a gateway
// poses one, and the gateway's friends would see which relay that is.
func TestPuzzleGivesWay(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := &Path{b: (&Builder{}).withDefaults()}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.cancel(ErrClosed) // nothing is sent
	z := wire.Puzzle{Effort: 16}
	base := z.Base(p.last, p.hash, wire.SessionNumber{})
	tried := 0
	for !z.Solves(base, uint64(tried)) {
		tried++
	}
	done := make(chan struct{})
	turns := 0
	go func() {
		defer close(done)
		p.pay(context.Background(), wire.SessionNumber{}, z)
	}()
	for over := false; !over; turns++ {
		select {
		case <-done:
			over = true
		default:
			runtime.Gosched()
		}
	}
	if want := tried / puzzleSlice; turns < want {
		t.Errorf("%d turns for others while %d nonces were tried, want %d", turns, tried, want)
	}
}
