package relay

import (
	"errors"
	"math/rand/v2"
	"testing"

	"wanderfs/relay/wire"
)

// biased gives a chooser whose two entries are bad and good.
func biased(t *testing.T) (tn *town, c *Chooser, bad, good wire.NodeID) {
	tn = newTown(60)
	c = tn.chooser(t, 21, nil)
	firsts(t, tn, c)
	return tn, c, c.entries[0].Node, c.entries[1].Node
}

// An entry that lets only paths to its friends live is given up.
func TestBiasedEntryIsDropped(t *testing.T) {
	tn, c, bad, good := biased(t)
	r := rand.New(rand.NewPCG(1, 1))
	n := 0
	for ; c.isEntry(bad) && n < 400; n++ {
		c.Built(bad, r.Float64() < 0.05)
		c.Built(good, r.Float64() < 0.80)
	}
	if c.isEntry(bad) || n < minBuilds-1 {
		t.Errorf("after %d builds: still an entry %v", n, c.isEntry(bad))
	}
	after := firsts(t, tn, tn.chooser(t, 22, c.State())) // nor after a restart
	if after[bad] || !after[good] || len(after) != 2 {
		t.Errorf("got %d entries, the bad one %v", len(after), after[bad])
	}
	if got := len(c.entries); got < 2 || c.entries[len(c.entries)-1].Node != bad && c.wasEntry(bad) == false {
		t.Error("it does not count any more")
	}
}

func TestEntryThatServesNothingIsDropped(t *testing.T) {
	_, c, bad, good := biased(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 80 {
		c.Served(bad, r.Float64() < 0.3)
		c.Served(good, r.Float64() < 0.9)
	}
	if c.isEntry(bad) || !c.isEntry(good) {
		t.Errorf("bad one kept %v, good one kept %v", c.isEntry(bad), c.isEntry(good))
	}
}

// Where a fifth of all relays fails, the entries are not to blame.
func TestNoiseDropsNoEntry(t *testing.T) {
	for seed := range uint64(50) {
		_, c, one, two := biased(t)
		r := rand.New(rand.NewPCG(seed, 3))
		for range 3000 {
			c.Built(one, r.Float64() < 0.8*0.8)
			c.Built(two, r.Float64() < 0.8*0.8)
			c.Served(one, r.Float64() < 0.9)
			c.Served(two, r.Float64() < 0.9)
		}
		if !c.isEntry(one) || !c.isEntry(two) {
			t.Fatalf("seed %d: an entry was dropped", seed)
		}
		if c.entries[0].Tries > scaleBuilds || c.entries[0].Uses > scaleUses {
			t.Fatalf("counts grow: %v", c.entries[0].bias)
		}
	}
}

// Somebody who clogs the second relays must not make a node lose its entries.
func TestFailuresFurtherOnDropNoEntry(t *testing.T) {
	_, c, one, two := biased(t)
	for i := range 1000 {
		c.Built(one, i%10 == 0)
		c.Built(two, i%10 == 0)
	}
	if !c.isEntry(one) || !c.isEntry(two) {
		t.Error("an entry was dropped though all do as badly")
	}
}

// Dropping counts: after four the node waits.
func TestDroppedEntriesCount(t *testing.T) {
	tn, c, _, _ := biased(t)
	for range 6 {
		firsts := c.active()
		if len(firsts) == 0 {
			break
		}
		c.drop(firsts[0])
		c.tendEntries(tn.field(), tn.now)
	}
	if _, err := c.Choose(tn.field(), Want{Hops: 3}); !errors.Is(err, ErrEntriesDown) || len(c.entries) != 4 {
		t.Errorf("got %v with %d entries ever, want ErrEntriesDown with 4", err, len(c.entries))
	}
}
