package node

import (
	"testing"
	"time"

	"golang.org/x/time/rate"

	"wanderfs/relay"
)

// TestFloodOfJoins: a hundred times as many readers as may join a session do
// so at its gateway, a real node, over paths of many neighbours or of one, and
// do no work for it. Readers of other neighbours who do the work that is asked
// for all get in, and no more of the flood comes down the session's standing
// path than may.
func TestFloodOfJoins(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	// A tenth of the default: each JOIN costs who floods as much as a set-up, and
	// two cores play him, too.
	const joins, asks, pause = 5., 4, 250 * time.Millisecond
	tries := 1
	if *crowdRates {
		tries = 3
	}
	limits := patient(relay.Limits{Joins: rate.Limit(joins)})
	gateway := startCrowd(t, crowdSetup{Role: crowdNode, Limits: limits})
	last := gateway.ask(t, crowdAsk{Op: "descriptors"}).Relays[0]
	between := startCrowd(t, crowdSetup{Role: crowdRelays, Hosts: 1, Limits: patient(roomyLimits())})
	way := between.ask(t, crowdAsk{Op: "descriptors"}).Relays[0]
	publisher := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 1})
	readers := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 40})
	// A neighbour may pass on 100 JOINs a second, so a flood of all that is
	// counted against the session takes many.
	many := max(2, int(joins))
	attackers := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: many})
	one := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 1})
	for _, c := range []struct {
		what      string
		attackers *crowdProcess
		n, paths  int
		effort    int
	}{
		{"many neighbours", attackers, many, 1, relay.DefaultEffort},
		{"one neighbour", one, 1, 8, relay.DefaultEffort},
		{"many neighbours, a publisher who asks for no work", attackers, many, 1, 0},
	} {
		if c.effort == 0 && !*crowdRates {
			continue // only to compare
		}
		published := publisher.ask(t, crowdAsk{Op: "publish", Ways: [][][]byte{{way, last}}, Effort: c.effort})
		ways := [][][]byte{{last}}
		joined := func() int { return publisher.ask(t, crowdAsk{Op: "joined"}).N }
		begin, before := time.Now(), joined()
		failed, asked := 0, 0
		measure := func(flooded bool) time.Duration {
			got := readers.ask(t, crowdAsk{Op: "first joined byte", Ways: ways, Sessions: published.Sessions, N: asks, For: pause})
			asked += asks
			failed += got.Failed
			if got.Failed > 0 && (c.effort > 0 || !flooded) {
				t.Errorf("%s: %d of %d readers did not get in: %v", c.what, got.Failed, asks, got.Why)
			}
			if len(got.Took) == 0 {
				return 0
			}
			return median(got.Took)
		}
		for range tries {
			quiet := measure(false)
			use, came := gateway.look(t), joined()
			c.attackers.ask(t, crowdAsk{Op: "flood of joins", Ways: ways, Sessions: published.Sessions, Rate: 100 * joins / float64(c.n), At: c.paths})
			start := time.Now()
			eventually(t, time.Minute, "the flood", func() bool { return float64(joined()-came) >= joins }) // half of the bucket is gone soon
			flooded := measure(true)
			calm := c.attackers.ask(t, crowdAsk{Op: "calm"})
			passed := time.Since(start).Seconds()
			sent := float64(calm.N) / passed
			t.Logf("%s: first byte %v quiet, %v flooded with %.0f JOINs a second, %d of %d of them let in; the gateway used %.0f %% of a core",
				c.what, quiet.Round(10*time.Microsecond), flooded.Round(10*time.Microsecond), sent, calm.Waves[0], calm.N,
				100*(gateway.look(t).CPU-use.CPU).Seconds()/passed)
			judgeRate(t, sent >= 50*joins, "%s: the machine is too slow for a flood of %.0f a second: it made %.0f", c.what, 100*joins, sent)
			if c.effort > 0 { // more is the price of the work, which is meant
				judgeRate(t, flooded <= quiet+time.Second, "%s: the first byte takes %v flooded, %v quiet", c.what, flooded, quiet)
			}
		}
		took := time.Since(begin).Seconds()
		got, most := joined()-before, joins*(took+4)
		t.Logf("%s: %d came to the session within %.1f s; %d of %d readers did not get in", c.what, got, took, failed, asked)
		if float64(got) > most {
			t.Errorf("%s: %d came down the standing path within %.1f s, want at most %.0f", c.what, got, took, most)
		}
	}
}
