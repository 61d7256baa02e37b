package relay

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// TestUnfinishedRequests: requests that do not come to their end fill the pool
// and are what goes first; a whole one is answered all the same.
func TestUnfinishedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLone(t)
		defer l.r.Close()
		const room = 6
		l.r.pool.limit = room
		var ps []*Path
		for range 5 {
			p := l.path(t)
			ps = append(ps, p)
			for id := range uint32(2) { // two of a thousand bytes, of which a few come
				if err := p.send(wire.CmdAsk, 2*id+1, append(wire.AppendAsk(nil, 1000), "few"...)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Millisecond)
			if got := l.r.pool.held.Load(); got > room {
				t.Errorf("%d frames held, want at most %d", got, room)
			}
		}
		whole := l.path(t)
		if _, err := whole.Ask(context.Background(), make([]byte, 50_000)); err == nil {
			t.Error("somebody answered") // nobody is there to
		}
		if err := whole.Err(); err != nil {
			t.Errorf("the path with the whole request: %v", err)
		}
		for i, p := range ps {
			if i < 2 && p.Err() == nil {
				t.Errorf("path %d lives on with its unfinished requests", i)
			}
			p.Close()
		}
		whole.Close()
	})
}
