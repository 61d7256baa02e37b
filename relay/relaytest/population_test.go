package relaytest

import (
	"testing"
	"time"
)

const day = 24 * time.Hour

func run(t *testing.T, p Population) *Trace {
	t.Helper()
	tr, err := p.Run()
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// The policy in a network with churn: a tenth super nodes that stay, the rest
// users' nodes that are on line for a quarter of the time.
func TestExposure(t *testing.T) {
	p := Population{Seed: 1, Users: 30, Step: 3 * time.Hour}
	if testing.Verbose() {
		p.Users, p.Step = 100, time.Hour
	}
	const c = 0.05
	begin := time.Now()
	tr := run(t, p)
	mean, most := tr.EntriesUsed()
	exposed := tr.Exposed(90*day, c)
	t.Logf("%d users, 1000 relays, 90 days, c = 5 %% of each kind of relay (%v):", p.Users, time.Since(begin).Round(time.Millisecond))
	t.Logf("  users ever exposed after 1, 30, 90 days: %.3f %.3f %.3f", tr.Exposed(day, c), tr.Exposed(30*day, c), exposed)
	t.Logf("  entries ever used: %.2f in the mean, %d at most; paths that waited for one: %.4f", mean, most, float64(tr.Waits)/float64(tr.Tries))
	if exposed > 0.20 {
		t.Errorf("%.3f of the users were exposed after 90 days, want at most 0.20", exposed)
	}
	if most > 4 {
		t.Errorf("a user used %d entries in 90 days, want at most 4", most)
	}
	if waits := float64(tr.Waits) / float64(tr.Tries); waits > 0.02 {
		t.Errorf("%.3f of the paths had to wait for an entry", waits)
	}

	found, ok := tr.MedianSeconded(c, 90*day)
	t.Logf("  entry found through the second layer: half of the users after %.1f days; after 1, 30, 90 days %.3f %.3f %.3f",
		found.Hours()/24, tr.Seconded(day, c), tr.Seconded(30*day, c), tr.Seconded(90*day, c))
	if ok && found < 7*day {
		t.Errorf("half of the entries are found after %v", found)
	}

	f := p
	f.fresh, f.Days, f.Step, f.Paths = true, 1, time.Hour, 6 // one every ten minutes
	fr := run(t, f)
	foundFresh, _ := fr.MedianSeconded(c, day)
	t.Logf("  fresh hops every ten minutes instead: exposed after 1 day %.3f; second hop bad for half after %v", fr.Exposed(day, c), foundFresh)
	if got := fr.Exposed(day, c); got < 0.98 {
		t.Errorf("fresh first hops: %.3f exposed after a day, want about 0.99: the simulation is too kind", got)
	}
}

// Colluders who never go away are more among those of proven uptime than among
// all relays. What that costs is printed, and bounded by what the limit of
// four entries allows.
func TestExposureToStayers(t *testing.T) {
	p := Population{Seed: 2, Users: 30, Step: 3 * time.Hour, Colluders: 0.05}
	if testing.Verbose() {
		p.Users, p.Step = 100, time.Hour
	}
	tr := run(t, p)
	found, _ := tr.MedianSeconded(0, 90*day)
	exposed := tr.Exposed(90*day, 0)
	t.Logf("5 %% of all relays are colluders who never go away, a third of those of proven uptime:")
	t.Logf("  users ever exposed after 1, 30, 90 days: %.3f %.3f %.3f", tr.Exposed(day, 0), tr.Exposed(30*day, 0), exposed)
	t.Logf("  entry found through the second layer: half of the users after %.1f days", found.Hours()/24)
	if exposed > 0.85 { // 1-(1-1/3)^4 = 0.80
		t.Errorf("%.3f exposed, more than four draws explain", exposed)
	}
}

// A thousand NodeIDs in one /16 weigh what one relay there would.
func TestSybilShare(t *testing.T) {
	p := Population{Seed: 3, Users: 16, Step: 3 * time.Hour, Days: 30, Sybils: 1000}
	if testing.Verbose() {
		p.Users, p.Days = 60, 90
	}
	tr := run(t, p)
	var hops, sybil int
	var share [3]float64
	for i := range share {
		hops, sybil = hops+tr.Hops[i], sybil+tr.SybilHops[i]
		share[i] = float64(tr.SybilHops[i]) / float64(tr.Hops[i])
	}
	all := float64(sybil) / float64(hops)
	t.Logf("1000 NodeIDs in one of %d /16s, of 2000 in all: %.4f of all chosen hops; of entries, second and later hops %.4f %.4f %.4f",
		tr.Hoods, all, share[0], share[1], share[2])
	t.Logf("  1/%d = %.4f by /16s; 1/%d = %.4f by those with somebody of proven uptime", tr.Hoods, 1/float64(tr.Hoods), tr.Stayers, 1/float64(tr.Stayers))
	if most := 1.5 / float64(tr.Stayers); all > most {
		t.Errorf("the Sybil gets %.4f of the hops, want at most %.4f", all, most)
	}
	// Of the later hops, which are fresh, one in as many as are on line.
	if most := 3 / float64(tr.Hoods); share[2] > most {
		t.Errorf("the Sybil gets %.4f of the later hops, want at most %.4f", share[2], most)
	}
}

func TestPopulationRepeats(t *testing.T) {
	p := Population{Seed: 4, Relays: 200, Hoods: 100, Users: 8, Days: 5}
	a, b := run(t, p), run(t, p)
	for i := range a.Entries {
		for j := range a.Entries[i] {
			if a.Entries[i][j] != b.Entries[i][j] {
				t.Fatal("the same seed gives another run")
			}
		}
	}
	if a.Hops != b.Hops || a.Waits != b.Waits {
		t.Error("the same seed gives another run")
	}
}
