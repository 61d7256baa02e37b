package relay

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"wanderfs/relay/wire"
)

// ErrChoiceState says that what was kept about pinned relays cannot be read.
// The chooser has begun anew.
var ErrChoiceState = errors.New("kept choice of relays is damaged")

// The state is JSON under a version. It names relays, so it belongs on disk
// only sealed.
const (
	choiceVersion = 1
	maxChoice     = 1 << 20 // bytes
	maxKept       = 1024    // relays of each kind
)

type stateJSON struct {
	Version int          `json:"version"`
	Known   []recordJSON `json:"known"`
	Entries []entryJSON  `json:"entries"`
	Second  []pinJSON    `json:"second"`
}

type recordJSON struct {
	Node    string           `json:"node"`
	Addrs   []netip.AddrPort `json:"addrs"`
	Watched int64            `json:"watched"` // this and all below: seconds
	Seen    int64            `json:"seen"`
	Down    int64            `json:"down"`
	Until   int64            `json:"until"`
}

type pinJSON struct {
	Node  string `json:"node"`
	Since int64  `json:"since"`
	Until int64  `json:"until"`
}

type entryJSON struct {
	pinJSON
	Used   int64   `json:"used"`
	Gone   bool    `json:"gone"`
	Tries  float64 `json:"tries"`
	Built  float64 `json:"built"`
	Uses   float64 `json:"uses"`
	Served float64 `json:"served"`
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// State gives what the chooser must remember across restarts.
func (c *Chooser) State() []byte {
	s := stateJSON{Version: choiceVersion}
	for _, r := range c.known {
		s.Known = append(s.Known, recordJSON{
			hex.EncodeToString(r.Node[:]), r.Addrs,
			int64(r.Watched / time.Second), int64(r.Seen / time.Second), int64(r.Down / time.Second), unix(r.Until),
		})
	}
	for _, e := range c.entries {
		s.Entries = append(s.Entries, entryJSON{
			pinJSON{hex.EncodeToString(e.Node[:]), unix(e.Since), unix(e.Until)}, unix(e.Used), e.Gone,
			e.Tries, e.Built, e.Uses, e.Served,
		})
	}
	for _, p := range c.second {
		s.Second = append(s.Second, pinJSON{hex.EncodeToString(p.Node[:]), unix(p.Since), unix(p.Until)})
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic("relay: choice state: " + err.Error()) // no value in it can fail
	}
	return b
}

// restore reads what State gave. On an error c is left empty.
func (c *Chooser) restore(b []byte) error {
	var s stateJSON
	if len(b) > maxChoice || json.Unmarshal(b, &s) != nil || s.Version != choiceVersion ||
		len(s.Known) > maxKept || len(s.Entries) > maxKept || len(s.Second) > maxKept {
		return ErrChoiceState
	}
	var known []*sighting
	byNode := make(map[wire.NodeID]*sighting)
	for _, k := range s.Known {
		id, err := nodeID(k.Node)
		if err != nil || byNode[id] != nil || len(k.Addrs) > wire.MaxAddrs || k.Watched < 0 || k.Seen < 0 || k.Down < 0 || k.Seen > k.Watched {
			return ErrChoiceState
		}
		r := &sighting{
			Node: id, Addrs: k.Addrs,
			Watched: seconds(k.Watched), Seen: seconds(k.Seen), Down: seconds(k.Down), Until: c.at(k.Until, c.cfg.NeighbourFor[1]),
		}
		known, byNode[id] = append(known, r), r
	}
	var entries []*entry
	seen := make(map[wire.NodeID]bool)
	for _, k := range s.Entries {
		id, err := nodeID(k.Node)
		if err != nil || seen[id] || !finite(k.Tries, k.Built) || !finite(k.Uses, k.Served) {
			return ErrChoiceState
		}
		seen[id] = true
		entries = append(entries, &entry{
			Node: id, Since: c.at(k.Since, 0), Until: c.at(k.Until, c.cfg.EntryFor[1]), Used: c.at(k.Used, 0), Gone: k.Gone,
			Reached: true, // a crash may have come between
			bias:    bias{k.Tries, k.Built, k.Uses, k.Served},
		})
	}
	var second []*pin
	clear(seen)
	for _, k := range s.Second {
		id, err := nodeID(k.Node)
		if err != nil || seen[id] {
			return ErrChoiceState
		}
		seen[id] = true
		second = append(second, &pin{Node: id, Since: c.at(k.Since, 0), Until: c.at(k.Until, c.cfg.SecondFor[1]), Passed: true})
	}
	c.known, c.byNode, c.entries, c.second = known, byNode, entries, second[:min(len(second), c.cfg.Second)]
	return nil
}

// at reads a time that lies in the past, or at most ahead in the future: a
// clock that was wrong once must not pin anybody for years.
func (c *Chooser) at(unix int64, ahead time.Duration) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	t := time.Unix(unix, 0)
	if last := c.cfg.Now().Add(ahead); t.After(last) {
		return last
	}
	return t
}

func seconds(n int64) time.Duration {
	return time.Duration(min(n, int64(10*windowOf/time.Second))) * time.Second
}

func finite(tries, good float64) bool {
	return good >= 0 && good <= tries && tries <= 2*scaleBuilds && !math.IsNaN(tries)
}

func nodeID(s string) (wire.NodeID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(wire.NodeID{}) {
		return wire.NodeID{}, fmt.Errorf("node: %w", wire.ErrMalformed)
	}
	return wire.NodeID(b), nil
}
