package relay

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"wanderfs/relay/wire"
)

func (r *Relay) known() (neighbours, targets int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.neighbours), len(r.targets)
}

// knock opens a link in somebody's name and says nothing.
func (l *lone) knock(t *testing.T, id wire.NodeID) Link {
	t.Helper()
	a, b := pipe(l.d.Node, id)
	go l.r.Serve(b)
	t.Cleanup(func() { a.Close() })
	return a
}

// TestForgetIdle: a neighbour and a target are remembered while they use
// something or their buckets fill, and no longer; no more of them than Known.
func TestForgetIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLone(t)
		defer l.r.Close()
		l.r.limits.Known = 3
		for i := range 5 {
			l.knock(t, wire.NodeID{byte(i)}).Close()
			synctest.Wait()
			l.r.mayExtend(wire.NodeID{byte(i)})
		}
		if n, k := l.r.known(); n != 3 || k != 3 {
			t.Errorf("remembers %d neighbours and %d targets, want 3 and 3", n, k)
		}
		held := l.knock(t, wire.NodeID{0})
		time.Sleep(forgetEvery*lookEvery + time.Second)
		if n, k := l.r.known(); n != 0 || k != 0 {
			t.Errorf("later: remembers %d neighbours and %d targets, want none", n, k) // Hello has passed
		}
		held.Close()
		l.r.limits.Creates = 1 // a burst of 8, full again after 8 s
		for range 9 {
			l.knock(t, wire.NodeID{7}).Close()
			synctest.Wait()
		}
		nb := l.r.neighbours[wire.NodeID{7}]
		if nb.creates.Allow() {
			t.Error("the bucket is not empty")
		}
		l.r.forgetIdle()
		if n, _ := l.r.known(); n != 1 {
			t.Errorf("an empty bucket was forgotten")
		}
	})
}

// TestCrowded: when all half-open places are taken, a newcomer takes the
// oldest of the neighbour that has most.
func TestCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLone(t)
		defer l.r.Close()
		l.r.limits.HalfOpen, l.r.limits.HalfOpenPer = 6, 4
		var greedy []Link
		for range 5 {
			greedy = append(greedy, l.knock(t, wire.NodeID{1}))
			synctest.Wait()
		}
		alive := func(a Link) bool {
			a.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := a.Read(make([]byte, 1))
			timeout, ok := err.(interface{ Timeout() bool })
			return ok && timeout.Timeout()
		}
		if alive(greedy[4]) {
			t.Error("one neighbour has more than HalfOpenPer")
		}
		var others []Link
		for i := range 4 {
			others = append(others, l.knock(t, wire.NodeID{byte(2 + i)}))
			synctest.Wait()
		}
		for i, want := range []bool{false, false, true, true} {
			if got := alive(greedy[i]); got != want {
				t.Errorf("greedy neighbour's set-up %d: alive %t, want %t", i, got, want)
			}
		}
		for i, a := range others {
			if !alive(a) {
				t.Errorf("neighbour %d was refused", i)
			}
		}
	})
}

// TestWorkers: a neighbour with many handshakes waits for itself.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := workers{free: 1}
		many, one := &neighbour{from: &origin{}}, &neighbour{from: &origin{}}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		w.enter(ctx, many)
		var order []string
		wait := func(nb *neighbour, name string) {
			go func() {
				if w.enter(ctx, nb) == nil {
					order = append(order, name)
					w.leave()
				}
			}()
			synctest.Wait()
		}
		for range 10 {
			wait(many, "many")
		}
		wait(one, "one")
		late, giveUp := context.WithCancel(ctx)
		go w.enter(late, &neighbour{from: &origin{}})
		synctest.Wait()
		giveUp()
		synctest.Wait()
		w.leave()
		synctest.Wait()
		if len(order) != 11 || order[1] != "one" {
			t.Errorf("order: %v", order)
		}
		if w.free != 1 || len(w.turn) != 0 {
			t.Errorf("%d free and %d waiting, want 1 and 0", w.free, len(w.turn))
		}
	})
}

func TestBucket(t *testing.T) {
	for r, want := range map[rate.Limit]int{0.1: 1, 1: 8, 50: 400, 1e12: 1 << 30, rate.Inf: 1 << 30} {
		if got := bucket(r).Burst(); got != want {
			t.Errorf("%v: burst %d, want %d", r, got, want)
		}
	}
}

// TestMadeUpTargets: who has a relay extend to many nodes, which he may make
// up, does not keep it from extending to others.
func TestMadeUpTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLone(t)
		defer l.r.Close()
		l.r.limits.Known = 3
		time.Sleep(2 * time.Second) // beside keepHouse's looks
		for i := range 3 {
			l.r.mayExtend(wire.NodeID{1, byte(i)})
		}
		if l.r.mayExtend(wire.NodeID{2}) {
			t.Error("a target is forgotten before its bucket is full")
		}
		time.Sleep(2 * time.Second)
		if !l.r.mayExtend(wire.NodeID{2}) {
			t.Error("a full table of idle targets refuses another")
		}
	})
}
