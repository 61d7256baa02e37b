package node

import (
	"math"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// signs is what paths send, in bytes, within an awaitStill, so as to see
// whether they live.
const signs = 8 * wire.RecordSize

// TestCloggingProcesses: somebody pushes all that a suspect's relay will
// carry through it, and reads from the session that the same node runs. The
// session's rate does not tell. The shares are well below what the machine
// can do, so that it is they who bound.
func TestCloggingProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	const up = 2 << 20 // bytes a second
	roomy := patient(roomyLimits())
	suspect := startCrowd(t, crowdSetup{Role: crowdNode, Limits: roomy, UpLimit: up})
	first := suspect.ask(t, crowdAsk{Op: "descriptors"}).Relays[0]
	relays := startCrowd(t, crowdSetup{Role: crowdRelays, Hosts: 4, Limits: roomy})
	ds := relays.ask(t, crowdAsk{Op: "descriptors"}).Relays
	session := suspect.ask(t, crowdAsk{Op: "publish", Ways: [][][]byte{{ds[0], ds[1]}}}).Sessions
	others := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 2})
	bulk := others.ask(t, crowdAsk{Op: "publish", Ways: [][][]byte{{first, ds[2]}, {first, ds[3]}}}).Sessions
	watcher, loader := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 1}), startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 4})
	watch := crowdAsk{Op: "read", Ways: [][][]byte{{ds[2], ds[1]}}, Sessions: session, N: 1, At: 1, For: 6 * time.Second}
	load := crowdAsk{Op: "read", Ways: [][][]byte{{ds[0], ds[2]}, {ds[1], ds[3]}}, Sessions: bulk, N: 8, At: 8, For: 9 * time.Second}
	carried := func() uint64 { return suspect.look(t).Relayed }
	var changes []float64
	for range 3 {
		awaitStill(t, "the load before", signs, carried) // what links hold of it goes on when its readers have gone
		alone := watcher.ask(t, watch).Rates[0]
		quiet := carried()
		loader.begin(t, load)
		eventually(t, time.Minute, "the load", func() bool { return carried()-quiet >= up/2 }) // a second of what it may carry
		before, start := carried(), time.Now()
		loaded := watcher.ask(t, watch).Rates[0]
		rate := float64(carried()-before) / time.Since(start).Seconds()
		loader.wait(t)
		t.Logf("session: %.0f KiB/s alone, %.0f KiB/s loaded; the relay carries %.0f KiB/s for others", alone/1024, loaded/1024, rate/1024)
		judgeRate(t, rate >= 0.4*up, "the relay was not loaded: %.0f bytes a second of %d", rate, up/2)
		changes = append(changes, (loaded-alone)/alone)
	}
	// Of the pairs the one in the middle: noise goes both ways, a load only down.
	got := median(changes)
	judgeRate(t, math.Abs(got) <= 0.05, "the session's rate changes by %.1f %% under load, want at most 5 %%", 100*got)
}

// TestCrowdAtOneGateway: readers share one standing path over real links, and
// some of them take nothing; the others keep at least 80 % of their rate.
func TestCrowdAtOneGateway(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	const reading, stalled, up = 16, 4, 8 << 20
	roomy := patient(roomyLimits())
	relays := startCrowd(t, crowdSetup{Role: crowdRelays, Hosts: 4, Limits: roomy})
	ds := relays.ask(t, crowdAsk{Op: "descriptors"}).Relays
	publisher := startCrowd(t, crowdSetup{Role: crowdNode, Limits: relay.Limits{}, UpLimit: up})
	session := publisher.ask(t, crowdAsk{Op: "publish", Ways: [][][]byte{{ds[0], ds[1]}}}).Sessions
	readers, asleep := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 4}), startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 2, Window: 256 << 10})
	ways := [][][]byte{{ds[2], ds[1]}, {ds[3], ds[1]}}
	q := crowdAsk{Op: "read", Ways: ways, Sessions: session, N: reading, At: 4, For: 10 * time.Second}
	slowest := func() float64 {
		rates := readers.ask(t, q).Rates
		least := rates[0]
		for _, r := range rates {
			least = min(least, r)
		}
		return least
	}
	alone := slowest()
	asleep.ask(t, crowdAsk{Op: "stall", Ways: ways, Sessions: session, N: stalled, At: 2, Dead: time.Hour})
	awaitStill(t, "those who stall", signs, func() uint64 { return relays.look(t).Relayed })
	beside := slowest()
	t.Logf("slowest of %d: %.0f KiB/s alone, %.0f KiB/s beside %d who stall", reading, alone/1024, beside/1024, stalled)
	judgeRate(t, beside >= 0.8*alone, "the slowest has %.2f of its rate beside those who stall, want at least 0.8", beside/alone)
}
