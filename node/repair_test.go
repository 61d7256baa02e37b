package node

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/node/fetch"
	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// What a reader may wait when a relay of a way in use fails, over seven links of
// 50 ms: a round trip of 0.75 s passes until anything is overdue, half a second
// until that is noticed, and a round trip until the bytes come by another way.
const (
	repairSoon   = 2500 * time.Millisecond // in most cases, if another way is in use that does not lead over that relay
	repairBeside = 3500 * time.Millisecond // in all of these
	repairAlone  = 6 * time.Second         // in all: if there is none a path must be built; seen are 5.6 s
)

// standsFor is how long the session has stood before somebody reads: its paths
// hardly ask for signs of life by then.
const standsFor = 2 * time.Minute

// startTrips is how many round trips a new connection takes: TCP, TLS,
// multiplexer, identify.
const startTrips = 4

// positions of a way: reader, r1, r2, r3, gateway, p2, p1, publisher.
var positions = []string{"r1", "r2", "r3", "gateway", "p2", "p1"}

// TestRepair: each relay of a way in use dies or freezes, early in a read, while
// windows grow, or later. The read goes on over another way, all bytes are
// right, and the reader's paths afterwards have the relays of before but for
// the one that failed.
func TestRepair(t *testing.T) {
	const size = 16 << 20
	content := newBlocks(t, size)
	cases, late := 0, 0
	for _, at := range []int{1 << 20, size / 2} {
		for _, how := range []string{"dies", "freezes"} {
			for k, name := range positions {
				t.Run(fmt.Sprintf("%s %s after %d MiB", name, how, at>>20), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						cases++
						after, beside := repair(t, content, at, how, k)
						if beside && after > repairSoon {
							late++
						}
					})
				})
			}
		}
	}
	if late > cases/8 {
		t.Errorf("in %d of %d cases a read waited for more than %v", late, cases, repairSoon)
	}
}

// repair returns how long a read waited, and whether another way was in use.
func repair(t *testing.T, content *blocks, at int, how string, k int) (after time.Duration, beside bool) {
	w := newWhole(t, relaytest.Config{Relays: 48, Latency: 50 * time.Millisecond, Rate: 4_000_000, Connect: startTrips}, content, 3, fetch.Config{})
	defer w.Close()
	time.Sleep(standsFor)
	var bad wire.NodeID
	var rows [][]wire.Descriptor
	before, after, err := w.readAll(at, func() {
		ways := w.ways()
		if len(ways) == 0 || len(ways[0]) != len(positions) {
			t.Errorf("%d ways in use", len(ways))
			return
		}
		bad = ways[0][k].Node
		for _, o := range ways[1:] {
			beside = beside || !leadsOver(o, bad)
		}
		rows = w.rows()
		if how == "dies" {
			w.kill(bad)
		} else {
			w.freeze(bad)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	most := repairAlone
	if beside {
		most = repairBeside
	}
	if after > most {
		t.Errorf("a read waited %v, want at most %v", after, most)
	}
	for i, row := range w.rows() {
		if i < len(rows) {
			for _, p := range replaced(rows[i], row) {
				if id := rows[i][p].Node; id != bad && !w.gateway(id) { // no gateway of its own way
					t.Errorf("relay %d of row %d was replaced and had not failed", p, i)
				}
			}
		}
	}
	t.Logf("longest wait %v, after the fault %v; another way: %v", before.Round(time.Millisecond), after.Round(time.Millisecond), beside)
	return after, beside
}

// repairAllGone is what a reader may wait in the same network when all pinned
// relays of a layer have died: each has to fail twice, a second apart.
const repairAllGone = 10 * time.Second

// TestRepairAllGone: relays in one position of the way in use die one after the
// other, more than are pinned there but for as many as may be drawn. The read
// goes on.
func TestRepairAllGone(t *testing.T) {
	const size, every = 40 << 20, 4 << 20 // some more than the kills take: not at each of them there is a way in use
	content := newBlocks(t, size)
	for k, kills := range []int{3, 5, 5, 5, 5, 3} { // of entries four are ever used, of second relays eight a day are replaced
		t.Run(fmt.Sprintf("%d times %s", kills, positions[k]), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWhole(t, relaytest.Config{Relays: 48, Latency: 50 * time.Millisecond, Rate: 4_000_000, Connect: startTrips}, content, 3, fetch.Config{})
				defer w.Close()
				killed := 0
				_, after, err := w.readWhile(every, func() bool {
					for _, way := range w.ways() {
						if len(way) == len(positions) {
							w.kill(way[k].Node)
							killed++
							break
						}
					}
					return killed < kills
				})
				if err != nil {
					t.Fatal(err)
				}
				if killed < kills {
					t.Errorf("%d relays were killed, want %d", killed, kills)
				}
				if after > repairAllGone {
					t.Errorf("a read waited %v, want at most %v", after, repairAllGone)
				}
				t.Logf("longest wait %v", after.Round(time.Millisecond))
			})
		})
	}
}

// TestRepairLies: each relay of a way in use corrupts, replays or reorders a
// frame towards the reader, or lets one through each half second. The read goes
// on, by other relays, and all bytes are right; measured, it waits for 1 to 3.9 s.
func TestRepairLies(t *testing.T) {
	const size, at = 8 << 20, 1 << 20
	content := newBlocks(t, size)
	for f, how := range map[relaytest.Fault]string{
		relaytest.Corrupt: "corrupts", relaytest.Replay: "replays", relaytest.Reorder: "reorders", relaytest.Trickle: "trickles",
	} {
		for k, name := range positions {
			t.Run(name+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { lie(t, content, at, f, k) })
			})
		}
	}
}

func lie(t *testing.T, content *blocks, at int, f relaytest.Fault, k int) {
	const relays = 48
	dials := make([]*relaytest.Faulty, 0, relays) // by relay: what it dials
	w := newWhole(t, relaytest.Config{
		Relays: relays, Latency: 50 * time.Millisecond, Rate: 4_000_000, Connect: startTrips,
		Adjust: func(c *relay.Config) {
			d := &relaytest.Faulty{Network: c.Network, Pause: 500 * time.Millisecond}
			c.Network = d
			dials = append(dials, d)
		},
	}, content, 3, fetch.Config{})
	defer w.Close()
	w.line.Pause = 500 * time.Millisecond
	link, dir := &w.line, relaytest.In
	_, after, err := w.readAll(at, func() {
		ways := w.ways()
		if len(ways) == 0 || len(ways[0]) != len(positions) {
			t.Errorf("%d ways in use", len(ways))
			return
		}
		way := ways[0]
		to := way[k].Node
		switch { // who dialled the link that leads from relay k towards the reader
		case k > 3:
			link, dir, to = dials[w.index[to]], relaytest.Out, way[k-1].Node
		case k > 0:
			link = dials[w.index[way[k-1].Node]]
		}
		link.Only(to)
		link.Do(dir, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	if link.Done() == 0 {
		t.Error("no frame met the fault")
	}
	if after > repairAlone {
		t.Errorf("a read waited %v, want at most %v", after, repairAlone)
	}
	t.Logf("longest wait after the fault %v", after.Round(time.Millisecond))
}

func leadsOver(hops []wire.Descriptor, id wire.NodeID) bool {
	return slices.ContainsFunc(hops, func(d wire.Descriptor) bool { return d.Node == id })
}
