package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// ErrNoSuperNode says that no super node could be found or asked. A later try
// may work.
var ErrNoSuperNode = errors.New("no super node answered")

// get asks the nearest super nodes and merges what they hold. It begins with
// First of them and widens to Replicas when they fail, hold nothing, are late
// or disagree. When none of them has a record, or none answers, the request
// walks on.
func (f *Far) get(ctx context.Context, g getRequest, req []byte) (getAnswer, error) {
	nodes, err := f.nearest(ctx, g.Addr)
	if err != nil {
		return getAnswer{}, fmt.Errorf("find super nodes: %w", err)
	}
	if len(nodes) == 0 {
		return getAnswer{}, ErrNoSuperNode
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	type reply struct {
		from wire.NodeID
		a    *getAnswer // nil: failed
	}
	results := make(chan reply, len(nodes)) // never closed
	started := 0
	start := func(n int) {
		for ; started < min(n, len(nodes)); started++ {
			to := nodes[started]
			wg.Go(func() { results <- reply{to, f.getFrom(ctx, to, g, req)} })
		}
	}
	start(f.cfg.First)
	widen := time.NewTimer(f.cfg.Widen)
	defer widen.Stop()
	late := time.NewTimer(f.cfg.WalkAfter)
	defer late.Stop()
	var (
		grace   <-chan time.Time
		got     []getAnswer
		lived   []wire.NodeID // answered
		ended   int
		found   bool // a record
		walked  = make(chan walkEnd, max(0, f.cfg.Walkers))
		walking = -1 // walkers under way; -1: not begun
	)
	take := func(a getAnswer) {
		got = append(got, a)
		found = found || len(a.Records) > 0
	}
	hasten := func() {
		if grace == nil {
			t := time.NewTimer(f.cfg.Grace) // it is collected, and ctx ends soon
			grace = t.C
		}
	}
	walk := func() {
		if walking < 0 && !found {
			start(len(nodes))
			walking = f.walk(ctx, &wg, g, nodes, lived, walked)
			grace = nil
		}
	}
	for {
		if ended == started {
			if started == len(nodes) {
				walk()
			}
			if walking <= 0 {
				break
			}
		}
		if walking == 0 && len(got) >= f.cfg.First {
			break // the rest would have answered by now
		}
		over := false
		select {
		case r := <-results:
			ended++
			if r.a != nil {
				lived = append(lived, r.from)
				take(*r.a)
			}
			switch {
			case started < len(nodes) && (r.a == nil || ended == started && !agree(got)):
				start(len(nodes))
			case walking >= 0 && found, walking < 0 && started > f.cfg.First && len(got) >= f.cfg.First:
				hasten()
			}
		case a := <-walked:
			walking--
			if a.Status == walkFound {
				take(a.Got)
				hasten()
			} else if a.heard && len(got) == 0 {
				take(getAnswer{}) // somebody near the key lives, and does not know
			}
		case <-widen.C:
			start(len(nodes))
		case <-late.C:
			if found {
				hasten()
			} else {
				walk()
			}
		case <-grace:
			if over = found; !over {
				walk()
				over = walking <= 0
			}
		}
		if over {
			break
		}
	}
	if len(got) == 0 {
		return getAnswer{}, ErrNoSuperNode
	}
	return f.merge(g, got), nil
}

// getFrom returns one super node's answer, nil if it failed or lied about what
// was asked.
func (f *Far) getFrom(ctx context.Context, to wire.NodeID, g getRequest, req []byte) *getAnswer {
	b, err := f.ask(ctx, to, req)
	if err != nil {
		return nil
	}
	a, err := parseGot(b)
	if err != nil || len(a.Records) > g.Limit {
		return nil
	}
	for _, r := range a.Records {
		if !g.fits(r) {
			return nil
		}
		if g.Kind == GroupInfo && r.Verify(f.cfg.Network) != nil {
			return nil
		}
	}
	return &a
}

// agree reports whether all answers hold the same records, and some.
func agree(got []getAnswer) bool {
	if len(got) == 0 || len(got[0].Records) == 0 {
		return false
	}
	set := func(a getAnswer) []string {
		s := make([]string, 0, len(a.Records))
		for _, r := range a.Records {
			s = append(s, string(r.b))
		}
		slices.Sort(s)
		return s
	}
	first := set(got[0])
	for _, a := range got[1:] {
		if !slices.Equal(first, set(a)) {
			return false
		}
	}
	return true
}

// merge makes one answer of several: by turns a record of each, so that a node
// that invents records cannot crowd out the others; of two versions the one
// that replaces the other, if its signature holds.
func (f *Far) merge(g getRequest, got []getAnswer) getAnswer {
	var out getAnswer
	at := make(map[recordID]int) // index in out.Records
	room := MaxMessage - gotHead
	sent := make([]int, len(got)) // records of each answer that were looked at
	full := false
	for turn := 0; !full; turn++ {
		left := false
		for i, a := range got {
			if turn >= len(a.Records) {
				continue
			}
			left = true
			r := a.Records[turn]
			if j, ok := at[r.id()]; ok {
				if f.better(r, out.Records[j]) {
					out.Records[j] = r
				}
			} else if len(r.b) > room {
				full = true
				break
			} else {
				at[r.id()] = len(out.Records)
				out.Records = append(out.Records, r)
				room -= len(r.b)
			}
			sent[i]++
		}
		if !left {
			break
		}
	}
	for i, a := range got {
		out.Total, out.Load = max(out.Total, a.Total), max(out.Load, a.Load)
		next, more := a.Next, a.More
		if sent[i] < len(a.Records) {
			if sent[i] == 0 {
				continue
			}
			next, more = a.Records[sent[i]-1].id(), true
		}
		// The next page begins where the least advanced node stopped; what
		// others send twice is merged by the asker.
		if more && (!out.More || before(g.Start, next, out.Next)) {
			out.More, out.Next = true, next
		}
	}
	return out
}

// better reports whether r, of the same id as old, is to be shown instead.
func (f *Far) better(r, old Record) bool {
	if string(r.b) == string(old.b) {
		return false
	}
	if old.Verify(f.cfg.Network) != nil {
		return true
	}
	return replaces(r, old) && r.Verify(f.cfg.Network) == nil
}
