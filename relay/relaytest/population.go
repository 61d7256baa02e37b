package relaytest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// Population is a network of relays that come and go, and of users who choose
// paths among them by the real policy, relay.Chooser, on a clock that is
// simulated. No path is built. The same seed gives the same run.
type Population struct {
	Seed   uint64
	Relays int           // 1000; a tenth are super nodes that stay, the others users' nodes, on line for a quarter of the time
	Hoods  int           // /16s in which they lie; 400
	Users  int           // who choose paths, on line all the time; 40
	Days   int           // 90
	Step   time.Duration // of the clock; 2 h
	Paths  int           // chosen by each user in a step; 2

	// Colluders are relays that never go away, this share of all, spread like
	// the others. (Who merely behaves like all others needs no relays of his
	// own: see Trace.Exposed.)
	Colluders float64
	Sybils    int // NodeIDs of one party in one /16, never away

	fresh bool // instead of the policy: all hops fresh
}

// Mean times on and off line of the two kinds of relays.
const (
	userOn, userOff   = 3 * time.Hour, 9 * time.Hour
	superOn, superOff = 20 * 24 * time.Hour, 6 * time.Hour
)

// Use is the first time that a user's path had a relay in some position.
type Use struct {
	Relay int
	At    time.Duration
}

// Trace is what a run recorded.
type Trace struct {
	Entries [][]Use // by user: every first hop ever used
	Second  [][]Use // by user: every second hop ever used

	Hops, SybilHops [3]int // chosen in all, and those of the one party, by position
	Hoods, Stayers  int    // neighbourhoods that somebody lies in, and somebody who stays
	Waits, Tries    int    // paths that had to wait, of those wanted
	colluder        []bool
}

type person struct {
	c    *relay.Chooser
	r    *rand.Rand
	seen [2]map[wire.NodeID]bool
	used [2][]Use

	hops, sybil  [3]int
	waits, tries int
}

// Run lets the days pass.
func (p Population) Run() (*Trace, error) {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&p.Relays, 1000)
	def(&p.Hoods, 400)
	def(&p.Users, 40)
	def(&p.Days, 90)
	def(&p.Paths, 2)
	if p.Step == 0 {
		p.Step = 2 * time.Hour
	}
	s := newScene(p)
	people := make([]*person, p.Users)
	for i := range people {
		c, err := relay.NewChooser(relay.ChoiceConfig{
			Seed:   func(b []byte) { binary.BigEndian.PutUint64(b, p.Seed<<32|uint64(i)) },
			Now:    func() time.Time { return s.now },
			Settle: -1,
		}, nil)
		if err != nil {
			return nil, fmt.Errorf("simulate: %w", err)
		}
		people[i] = &person{c: c, r: rand.New(rand.NewPCG(p.Seed, uint64(i))), seen: [2]map[wire.NodeID]bool{{}, {}}}
	}
	for s.now.Sub(s.begin) < time.Duration(p.Days)*24*time.Hour {
		f := s.step()
		var wg sync.WaitGroup
		for w := range runtime.GOMAXPROCS(0) { // users do not meet: any order gives the same
			wg.Go(func() {
				for i := w; i < len(people); i += runtime.GOMAXPROCS(0) {
					people[i].live(s, f)
				}
			})
		}
		wg.Wait()
	}
	t := &Trace{Hoods: len(s.hoods)}
	stay := make(map[netip.Prefix]bool)
	for _, n := range s.relays {
		t.colluder = append(t.colluder, n.colluder)
		if n.Super || n.colluder || n.sybil {
			stay[relay.Neighbourhood(n.Addrs[0].Addr())] = true
		}
	}
	t.Stayers = len(stay)
	for _, u := range people {
		t.Entries, t.Second = append(t.Entries, u.used[0]), append(t.Second, u.used[1])
		for i := range t.Hops {
			t.Hops[i] += u.hops[i]
			t.SybilHops[i] += u.sybil[i]
		}
		t.Waits, t.Tries = t.Waits+u.waits, t.Tries+u.tries
	}
	return t, nil
}

// live is one step of a user.
func (u *person) live(s *scene, f *relay.Field) {
	u.c.Watch(f, s.p.Step)
	for range s.p.Paths {
		u.tries++
		var hops []int
		if s.p.fresh {
			for range 3 {
				hops = append(hops, s.up[u.r.IntN(len(s.up))])
			}
		} else {
			ids, err := u.c.Choose(f, relay.Want{Hops: 3, Far: true})
			if err != nil {
				u.waits++
				continue
			}
			u.c.Reached(ids[0])
			for _, id := range ids {
				hops = append(hops, numberOf(id))
			}
		}
		for i, n := range hops {
			u.hops[i]++
			if s.relays[n].sybil {
				u.sybil[i]++
			}
			if id := s.relays[n].Node; i < 2 && !u.seen[i][id] {
				u.seen[i][id] = true
				u.used[i] = append(u.used[i], Use{n, s.now.Sub(s.begin)})
			}
		}
	}
}

// scene is the relays and their clock.
type scene struct {
	p          Population
	r          *rand.Rand
	begin, now time.Time
	relays     []simRelay
	hoods      map[netip.Prefix]bool
	up         []int // on line now
}

type simRelay struct {
	relay.Candidate
	on              bool
	down            time.Duration
	leave, come     float64 // probability in a step
	colluder, sybil bool
}

func newScene(p Population) *scene {
	s := &scene{p: p, r: rand.New(rand.NewPCG(p.Seed, 1)), begin: time.Unix(1.7e9, 0), hoods: make(map[netip.Prefix]bool)}
	s.now = s.begin
	odds := func(mean time.Duration) float64 { return 1 - math.Exp(-float64(p.Step)/float64(mean)) }
	bad := int(p.Colluders*float64(p.Relays) + 0.5)
	for i := range p.Relays + p.Sybils {
		hood, host := s.r.IntN(p.Hoods), i
		n := simRelay{on: true, colluder: i < bad, sybil: i >= p.Relays}
		if n.sybil {
			hood = p.Hoods
		}
		switch {
		case n.colluder || n.sybil:
		case s.r.IntN(10) == 0:
			n.Super, n.leave, n.come = true, odds(superOn), odds(superOff)
		default:
			n.leave, n.come = odds(userOn), odds(userOff)
			n.on = s.r.IntN(4) == 0
		}
		n.Node = nodeOf(i)
		n.Addrs = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(1 + hood>>8), byte(hood), byte(host >> 8), byte(host)}), 4001)}
		n.Met, n.Up = true, true
		s.hoods[relay.Neighbourhood(n.Addrs[0].Addr())] = true
		s.relays = append(s.relays, n)
	}
	return s
}

func nodeOf(n int) (id wire.NodeID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)+1)
	return id
}

func numberOf(id wire.NodeID) int { return int(binary.BigEndian.Uint64(id[:])) - 1 }

// step moves the clock and gives what everybody's view now holds: who has
// gone is first seen to fail, then forgotten as its descriptor expires.
func (s *scene) step() *relay.Field {
	s.now = s.now.Add(s.p.Step)
	s.up = s.up[:0]
	var cs []relay.Candidate
	for i := range s.relays {
		n := &s.relays[i]
		switch {
		case n.on && s.r.Float64() < n.leave:
			n.on, n.down = false, 0
		case !n.on && s.r.Float64() < n.come:
			n.on = true
		}
		c := n.Candidate
		if n.on {
			s.up = append(s.up, i)
		} else {
			n.down += s.p.Step
			c.Up, c.Dead = false, true
			if n.down > 3*time.Hour {
				continue
			}
		}
		cs = append(cs, c)
	}
	return relay.NewField(cs)
}

// Exposed gives the share of users who used a bad entry within the time. With
// c > 0 each relay is bad with probability c, whatever it does: the mean over
// many draws; with c = 0 the run's own colluders are.
func (t *Trace) Exposed(within time.Duration, c float64) float64 {
	return t.met(t.Entries, within, c)
}

// Seconded is Exposed for second hops: whoever controls far ends and stands
// there finds the entry.
func (t *Trace) Seconded(within time.Duration, c float64) float64 {
	return t.met(t.Second, within, c)
}

func (t *Trace) met(uses [][]Use, within time.Duration, c float64) float64 {
	sum := 0.0
	for _, us := range uses {
		safe := 1.0
		for _, u := range us {
			switch {
			case u.At > within:
			case c > 0:
				safe *= 1 - c
			case t.colluder[u.Relay]:
				safe = 0
			}
		}
		sum += 1 - safe
	}
	return sum / float64(len(uses))
}

// MedianSeconded gives when half of the users have met a bad second hop, to
// the hour; false when that is after the end.
func (t *Trace) MedianSeconded(c float64, end time.Duration) (time.Duration, bool) {
	for at := time.Hour; at <= end; at += time.Hour {
		if t.Seconded(at, c) >= 0.5 {
			return at, true
		}
	}
	return 0, false
}

// EntriesUsed gives how many different entries users ever used: the mean and
// the most.
func (t *Trace) EntriesUsed() (mean float64, most int) {
	for _, us := range t.Entries {
		mean += float64(len(us)) / float64(len(t.Entries))
		most = max(most, len(us))
	}
	return mean, most
}
