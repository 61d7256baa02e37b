package relay

import (
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"wanderfs/relay/wire"
)

// ErrEntriesDown says that no pinned entry can be used now and that no other
// one may be drawn: too many were used already, or it is too early to know
// that they are gone. Wait; the node keeps trying.
var ErrEntriesDown = errors.New("no pinned entry answers, waiting for one to come back")

// ErrSettling says that the node has just begun to learn of relays. Entries
// are for months, so they are not pinned among the first few that were heard
// of. It passes within Settle.
var ErrSettling = errors.New("still learning of relays")

// ErrTooNear says that what the path has to end at lies where the pinned
// relays do. Another gateway may do.
var ErrTooNear = errors.New("the gateway lies too near to the pinned relays")

// FewRelaysError says that a path cannot be chosen now: the node waits until
// it knows more relays, it never makes the path shorter.
type FewRelaysError struct {
	Need, Know int
	What       string // "relay" or "super node"
}

// Error says what is missing in words.
func (e *FewRelaysError) Error() string {
	plural := "s"
	if e.Need == 1 {
		plural = ""
	}
	return fmt.Sprintf("needs %d %s%s, knows %d", e.Need, e.What, plural, e.Know)
}

const day = 24 * time.Hour

// ChoiceConfig is the policy by which a node chooses the relays of its paths.
// A zero field has the default that it names. The figures and why: SPEC.md
// §13; negative Settle means none.
type ChoiceConfig struct {
	Seed func([]byte)     // fills the seed of all choices; crypto/rand
	Now  func() time.Time // time.Now

	Neighbours   int              // relays that the node stays connected to and draws entries from; 8
	NeighbourFor [2]time.Duration // how long each stays, uniform; 60 to 120 days
	Watched      int              // relays whose uptime is recorded; 64
	Prove        time.Duration    // how long a relay is watched until its uptime counts as proven; 24 h

	Entries  int              // pinned at a time; 2
	EntryFor [2]time.Duration // how long each stays, uniform; 60 to 120 days
	EverUsed int              // different entries used within Span, at most; 4
	Span     time.Duration    // 90 days

	Second    int              // relays pinned as second hops; 4
	SecondFor [2]time.Duration // how long each stays, the longer of two uniform draws; 1 to 12 days

	Settle time.Duration // how long to learn of relays before the first pin, unless Neighbours are known sooner; 2 s
	Absent time.Duration // time on line after which a pinned relay that is not known any more counts as lost; 1 min
	Gone   time.Duration // down for so long while watched, a pinned relay is replaced; 24 h
}

func (c ChoiceConfig) withDefaults() ChoiceConfig {
	span := func(v *[2]time.Duration, from, to time.Duration) {
		if *v == ([2]time.Duration{}) {
			*v = [2]time.Duration{from, to}
		}
	}
	if c.Seed == nil {
		c.Seed = func(b []byte) { _, _ = crand.Read(b) } // never fails: the program ends instead
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	def(&c.Neighbours, 8)
	span(&c.NeighbourFor, 60*day, 120*day)
	def(&c.Watched, 64)
	def(&c.Prove, day)
	def(&c.Entries, 2)
	span(&c.EntryFor, 60*day, 120*day)
	def(&c.EverUsed, 4)
	def(&c.Span, 90*day)
	def(&c.Second, 4)
	span(&c.SecondFor, day, 12*day)
	def(&c.Settle, 2*time.Second)
	def(&c.Absent, time.Minute)
	def(&c.Gone, day)
	return c
}

// Chooser chooses the relays of a node's own paths:
//
//	hop 0    one of 2 pinned entries, for months; see entries.go
//	hop 1    one of 4 pinned second relays, for days; see second.go
//	then     fresh ones
//
// Each is drawn neighbourhood first. On one path no relay and no neighbourhood
// comes twice. A Chooser does no I/O, and the same seed, clock and calls give
// the same choices. It is not safe for concurrent use.
type Chooser struct {
	cfg ChoiceConfig
	rnd *rand.Rand

	known   []*sighting // watched relays
	byNode  map[wire.NodeID]*sighting
	entries []*entry // in the order in which they are preferred; those given up too
	second  []*pin
	vain    []time.Time // when second relays were replaced before their time, of the last day

	begun  time.Time     // when there was first somebody to choose from; zero: not yet
	online time.Duration // watched in this run
	pins   uint64        // see Pins
}

// NewChooser makes a chooser. State is what an earlier one gave, or nil; an
// error means that it was damaged, and the chooser begins anew.
func NewChooser(cfg ChoiceConfig, state []byte) (*Chooser, error) {
	c := &Chooser{cfg: cfg.withDefaults(), byNode: make(map[wire.NodeID]*sighting)}
	var seed [32]byte
	c.cfg.Seed(seed[:])
	c.rnd = rand.New(rand.NewChaCha8(seed))
	if len(state) == 0 {
		return c, nil
	}
	return c, c.restore(state)
}

// Want says what a path is for.
type Want struct {
	Hops    int         // relays to choose
	Gateway bool        // the last one is to be a super node where the path stands
	Far     bool        // the last one answers itself: it is fresh on a path of two relays, too
	Avoid   []Candidate // the other end: no hop is one of them or near one
	Others  []Candidate // further gateways of the same session: the gateway is none of them, nor near one
}

// Pins counts the changes of what is pinned. Where it has changed, State must
// be on disk before the path is used: else a crash would make the node forget
// whom it has shown itself to, and draw more.
func (c *Chooser) Pins() uint64 { return c.pins }

// Choose gives the relays of one path, nearest first. Its error is a
// *FewRelaysError, ErrEntriesDown, ErrSettling or ErrTooNear: the path must
// wait, it is never made shorter.
func (c *Chooser) Choose(f *Field, w Want) ([]wire.NodeID, error) {
	if w.Hops < 1 {
		return nil, fmt.Errorf("choose path: %d hops", w.Hops)
	}
	now := c.cfg.Now()
	a := attempt{c: c, f: f, w: w, now: now, needy: true}
	for i := range w.Avoid {
		a.taken = append(a.taken, place{Candidate: w.Avoid[i], hoods: w.Avoid[i].Hoods()})
	}
	avoid := len(a.taken)
	if know := f.count(a.fits); know < w.Hops {
		return nil, &FewRelaysError{Need: w.Hops, Know: know, What: "relay"}
	}
	if !c.settled(f, now) {
		return nil, ErrSettling
	}
	c.tendNeighbours(f, now)
	c.tendEntries(f, now)
	c.tendSecond(f, now)
	a.needy = false
	hops, err := a.choose()
	if err != nil {
		a.taken, a.needy = a.taken[:avoid], true
		hops, err = a.choose()
	}
	return hops, err
}

// settled reports whether enough relays are known for pinning some of them.
func (c *Chooser) settled(f *Field, now time.Time) bool {
	if len(c.entries) > 0 {
		return true
	}
	met := f.count(func(p *place) bool { return p.Met && !p.Dead })
	if c.begun.IsZero() && met > 0 {
		c.begun = now
	}
	return met >= c.cfg.Neighbours || met > 0 && now.Sub(c.begun) >= c.cfg.Settle
}

// attempt is the choice of one path.
type attempt struct {
	c     *Chooser
	f     *Field
	w     Want
	now   time.Time
	needy bool    // those that failed lately will do
	taken []place // what no further hop may be or be near
}

// fits reports whether p may be another hop.
func (a *attempt) fits(p *place) bool {
	return !p.Dead && (a.needy || !p.Failed) && !near(p, a.taken)
}

// near reports whether p is one of ps or shares a neighbourhood with one.
func near(p *place, ps []place) bool {
	for i := range ps {
		if ps[i].Node == p.Node {
			return true
		}
		for _, h := range ps[i].hoods {
			if slices.Contains(p.hoods, h) {
				return true
			}
		}
	}
	return false
}

func (a *attempt) take(p *place) wire.NodeID {
	a.taken = append(a.taken, *p)
	return p.Node
}

func (a *attempt) choose() ([]wire.NodeID, error) {
	hops := make([]wire.NodeID, a.w.Hops)
	n := a.w.Hops
	if a.w.Gateway && n > 1 { // the scarce one first
		p := a.gateway()
		if p == nil {
			know := a.f.count(func(p *place) bool { return p.Super && !p.Dead })
			return nil, &FewRelaysError{Need: 1 + len(a.w.Others), Know: know, What: "super node"}
		}
		n--
		hops[n] = a.take(p)
	}
	p, err := a.entry()
	if err != nil {
		return nil, err
	}
	hops[0] = a.take(p)
	for i := 1; i < n; i++ {
		if i == 1 && !(a.w.Far && n == 2) {
			p = a.secondHop()
		} else {
			p = a.fresh()
		}
		if p == nil {
			return nil, &FewRelaysError{Need: a.w.Hops, Know: i, What: "relay"}
		}
		hops[i] = a.take(p)
	}
	return hops, nil
}

// gateway chooses a super node, as if nobody were pinned: gateways are named in
// public records, some seventy a day of each group of shares, and who reads them
// finds in a few weeks whom a publisher never takes. A gateway that is an entry,
// or lies near one, is reached through another entry; only where there is none
// is it not chosen. Nor does it count what was measured: pinned relays were
// measured best.
func (a *attempt) gateway() *place {
	others := make([]place, len(a.w.Others))
	for i, o := range a.w.Others {
		others[i] = place{Candidate: o, hoods: o.Hoods()}
	}
	entries := a.entries()
	return a.f.pickEven(a.c.rnd, func(p *place) bool {
		if !p.Super || !a.fits(p) || near(p, others) {
			return false
		}
		g := []place{*p}
		return len(entries) == 0 || slices.ContainsFunc(entries, func(e *place) bool { return !near(e, g) })
	})
}

// fresh chooses a later hop, one that is not pinned where others suffice.
func (a *attempt) fresh() *place {
	if p := a.f.pick(a.c.rnd, func(p *place) bool {
		return a.fits(p) && !a.c.isEntry(p.Node) && !a.c.isSecond(p.Node)
	}); p != nil {
		return p
	}
	if p := a.f.pick(a.c.rnd, func(p *place) bool { return a.fits(p) && !a.c.isEntry(p.Node) }); p != nil {
		return p
	}
	return a.f.pick(a.c.rnd, a.fits)
}

// Neighbours gives the relays that the node should stay connected to, entries
// included, with the addresses at which they were last known.
func (c *Chooser) Neighbours() []Candidate {
	var out []Candidate
	for _, r := range c.known {
		if !r.Until.IsZero() || c.isEntry(r.Node) {
			out = append(out, Candidate{Node: r.Node, Addrs: r.Addrs})
		}
	}
	return out
}

// Stale gives up to n watched relays that nothing fresh is known of. To ask
// for them would tell nothing: they are a random sample, not those in use, and
// how they do in this node's own paths is left out. A relay that is visited soon
// after it failed a circuit would know whose that was.
func (c *Chooser) Stale(f *Field, n int) []wire.NodeID {
	var out []wire.NodeID
	for _, r := range c.known {
		if p := f.get(r.Node); p != nil && p.Stale {
			out = append(out, r.Node)
		}
	}
	c.rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}

// between draws a duration, uniform.
func (c *Chooser) between(span [2]time.Duration) time.Duration {
	return span[0] + time.Duration(c.rnd.Int64N(int64(max(span[1]-span[0], 0))+1))
}
