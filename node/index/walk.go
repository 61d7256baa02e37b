package index

import (
	"context"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// walker passes a walking query from super node to super node. The far end of
// a path and every super node on the way use it alike:
//
//	far end --walk--> super node --walk--> super node --walk--> holder
//	        <--------            <--------            <--------
//
// Each waits for the answer of the next and hands it back; nobody learns more
// than its two neighbours on the walk.
type walker struct {
	router  Router
	network string
	reach   time.Duration // for a super node to be reached
	tries   int           // super nodes tried that did not take it on: dead, visited before, with nowhere to go
	coin    func(walkID) bool
}

// lastIn is in how many steps of a walk one is the last, by a coin that whoever
// passes it on throws anew. So a walk ends, and nothing in it counts steps: to
// each on the way it looks as if the far end, or anybody, were the one before.
// Measured in TestWander; ours.
const lastIn = 64

func walkCoin(walkID) bool { return mrand.IntN(lastIn) > 0 }

const (
	// besideAfter is how long one super node is waited for alone; ours. To
	// dial another 100 ms away takes 300.
	besideAfter = 350 * time.Millisecond
	// leastBudget is what a walk must have left to be passed on; ours.
	leastBudget = 100 * time.Millisecond
)

// pass asks super nodes one after the other until one of them, or one that it
// passed the query on to, has records. next names whom to try, and learns which
// were tried from w.Asked. What comes back fits the request and is signed; the
// second result tells whether anybody answered.
func (k walker) pass(ctx context.Context, w walkRequest, next func(w walkRequest) (wire.NodeID, bool)) (end walkAnswer, heard bool) {
	deadline, _ := ctx.Deadline() // all callers set one
	for tries := 0; w.On && tries < k.tries; {
		to, ok := k.meet(ctx, &w, &tries, next)
		if !ok {
			break
		}
		if time.Until(deadline) < leastBudget {
			return walkAnswer{Status: walkNothing}, heard
		}
		out := w
		out.On = k.coin(w.ID)
		a, ok := k.ask(ctx, to, out)
		heard = heard || ok
		switch {
		case ctx.Err() != nil:
			return walkAnswer{Status: walkNothing}, heard
		case a.Status == walkFound && ok:
			return a, heard
		case ok && a.Status == walkNothing && !a.Open:
			return a, heard
		default:
			tries++
		}
	}
	return walkAnswer{Status: walkNothing, Open: w.On}, heard
}

// meet reaches the next super node that lives. While one lets it wait, it tries
// another beside it: of the dead, some refuse and some say nothing.
func (k walker) meet(ctx context.Context, w *walkRequest, tries *int, next func(w walkRequest) (wire.NodeID, bool)) (wire.NodeID, bool) {
	type outcome struct {
		node wire.NodeID
		ok   bool
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	results := make(chan outcome, k.tries+2) // one for each that is begun; never closed
	var under []wire.NodeID                  // being reached
	begin := func() {
		if *tries+len(under) >= k.tries {
			return
		}
		v := *w
		for _, n := range under {
			v = v.remember(n)
		}
		if n, ok := next(v); ok {
			under = append(under, n)
			wg.Go(func() { results <- outcome{n, k.reached(ctx, n)} })
		}
	}
	begin()
	beside := time.NewTicker(besideAfter)
	defer beside.Stop()
	for len(under) > 0 {
		select {
		case r := <-results:
			under = slices.DeleteFunc(under, func(n wire.NodeID) bool { return n == r.node })
			*w = w.remember(r.node)
			if r.ok {
				return r.node, true
			}
			*tries++
			if len(under) == 0 && ctx.Err() == nil {
				begin()
			}
		case <-beside.C:
			if len(under) < 2 {
				begin()
			}
		}
	}
	return wire.NodeID{}, false
}

func (k walker) reached(ctx context.Context, to wire.NodeID) bool {
	ctx, cancel := context.WithTimeout(ctx, k.reach)
	defer cancel()
	return k.router.Reach(ctx, to) == nil
}

// ask returns false if to failed or answered what was not asked for.
func (k walker) ask(ctx context.Context, to wire.NodeID, w walkRequest) (walkAnswer, bool) {
	b, err := k.router.Ask(ctx, to, w.encode())
	if err != nil {
		return walkAnswer{}, false
	}
	a, err := parseWalked(b)
	if err != nil {
		return walkAnswer{}, false
	}
	if a.Status != walkFound {
		return a, true
	}
	if len(a.Got.Records) > w.Get.Limit {
		return walkAnswer{}, false
	}
	for _, r := range a.Got.Records {
		// A liar must at least pay for a signature before a walk ends with it.
		if !w.Get.fits(r) || r.Verify(k.network) != nil {
			return walkAnswer{}, false
		}
	}
	return a, true
}
