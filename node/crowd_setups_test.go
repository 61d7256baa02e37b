package node

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"wanderfs/relay"
)

func median[T float64 | time.Duration](all []T) T {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}

// latency is how long something took, again and again, while all was quiet
// and while a flood came.
type latency struct{ quiet, flooded []time.Duration }

// floor is what a flood may always add: a path of six relays over any real
// line takes ten times that.
const floor = 20 * time.Millisecond

// judge wants the time at most doubled. It goes by the pair in the middle:
// noise goes both ways.
func (l *latency) judge(t *testing.T, what string) {
	t.Helper()
	var ratios []float64
	var more []time.Duration
	for i, q := range l.quiet {
		ratios = append(ratios, float64(l.flooded[i])/float64(q))
		more = append(more, l.flooded[i]-q)
	}
	t.Logf("%s: the time to the first byte is %.2f times as long, %v more", what, median(ratios), median(more).Round(10*time.Microsecond))
	judgeRate(t, median(ratios) <= 2 || median(more) <= floor,
		"%s: the time to the first byte is %.2f times as long, %v more; want at most 2 times or %v", what, median(ratios), median(more), floor)
}

// TestFloodOfSetUps: somebody begins a hundred times as many circuits as he
// may at a real node, with packets that cost it a handshake each, with
// garbage, and with halves of packets; then many neighbours do, none more than
// he may, and all of them as many as the node takes in all. No more of theirs
// are let in than they may have, others are all let in, and have a path and an
// answer in twice the time at most.
func TestFloodOfSetUps(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	creates, prepared := 3., 300 // a second and neighbour; small, so that two busy cores can play the flooder too
	if *crowdRates {
		creates, prepared = 50, 20000 // as by default
	}
	limits := patient(relay.Limits{Creates: rate.Limit(creates)})
	limits.Hello = 5 * time.Second
	node := startCrowd(t, crowdSetup{Role: crowdNode, Limits: limits})
	ways := [][][]byte{node.ask(t, crowdAsk{Op: "descriptors"}).Relays}
	const honest = 40
	users := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: honest})
	one, thirty := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 1}), startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 30})
	for _, c := range []struct {
		what      string
		attackers *crowdProcess
		n         int
		rate      float64
		kind      string
	}{
		{"one neighbour, valid packets", one, 1, 100 * creates, "valid"},
		{"one neighbour, all kinds", one, 1, 100 * creates, "all"},
		{"thirty neighbours, valid packets", thirty, 30, min(creates, float64(limits.WithDefaults().SetUps)/30), "valid"},
	} {
		c.attackers.ask(t, crowdAsk{Op: "prepare", Ways: ways, N: prepared, At: 2})
		begin, first := time.Now(), node.look(t)
		const tries, asks, pause = 3, 20, 40 * time.Millisecond
		built := 0
		measure := func() time.Duration {
			got := users.ask(t, crowdAsk{Op: "first byte", Ways: ways, N: asks, For: pause})
			if got.Failed > 0 {
				t.Errorf("%s: %d of %d others were refused: %v", c.what, got.Failed, asks, got.Why)
			}
			if len(got.Took) == 0 {
				t.Fatal("no path")
			}
			built += asks
			return median(got.Took)
		}
		var l latency
		for range tries { // side by side, so that what else the machine does hits both
			quiet := measure()
			before, start := node.look(t), time.Now()
			c.attackers.ask(t, crowdAsk{Op: "flood", Ways: ways, Kind: c.kind, Rate: c.rate, At: max(1, 8/c.n)})
			all := float64(c.n) * c.rate
			eventually(t, time.Minute, "the flood", func() bool { // and until what may come in a burst has come
				u := node.look(t)
				came := u.Taken - before.Taken + u.Refused - before.Refused
				return float64(came) >= all/4 && (u.Refused > before.Refused || c.rate <= creates)
			})
			flooded := measure()
			sent := float64(c.attackers.ask(t, crowdAsk{Op: "calm"}).N)
			passed, after := time.Since(start).Seconds(), node.look(t)
			t.Logf("%s: first byte %v quiet, %v flooded with %.0f a second; %d were refused; the node used %.0f %% of a core",
				c.what, quiet.Round(time.Microsecond), flooded.Round(time.Microsecond), sent/passed,
				after.Refused-before.Refused, 100*(after.CPU-before.CPU).Seconds()/passed)
			judgeRate(t, sent/passed >= all/2, "%s: the machine is too slow for a flood of %.0f a second: it made %.0f", c.what, all, sent/passed)
			l.quiet, l.flooded = append(l.quiet, quiet), append(l.flooded, flooded)
		}
		took, last := time.Since(begin).Seconds(), node.look(t)
		let := int(last.Taken-first.Taken) - built
		if most := float64(c.n) * creates * (took + 8); float64(let) > most {
			t.Errorf("%s: %d circuits were let in, want at most %.0f", c.what, let, most)
		}
		t.Logf("%s: %d circuits were let in within %.1f s, %d refused", c.what, let, took, last.Refused-first.Refused)
		l.judge(t, c.what)
	}
}
