package relay

import (
	"time"

	"golang.org/x/time/rate"

	"wanderfs/relay/wire"
)

// Held gives how many frames a relay holds.
func Held(r *Relay) int64 { return r.pool.held.Load() }

// OneShare gives shares that are none: one bucket for all.
func OneShare(up int64) *Shares {
	all := sending(rate.Limit(up))
	return &Shares{own: all, relayed: all, session: rate.Inf}
}

// Turns gives how many epochs of a path's forward layers are over.
func Turns(p *Path) int {
	p.writing <- struct{}{}
	defer func() { <-p.writing }()
	return p.out.hops[0].turns
}

// WithoutFiller makes a relay, or paths, use zeros where filler belongs: in the
// first epoch, and in those after it.
func WithoutFiller(c *Config, b *Builder, first, later bool) {
	e := emptiness{first, later}
	if c != nil {
		c.plain = e
	}
	if b != nil {
		b.plain = e
	}
}

// LeakEnds makes a relay, or paths, let the way in which a link ended go on to
// the next one.
func LeakEnds(c *Config, b *Builder) {
	if c != nil {
		c.leaky.ends = true
	}
	if b != nil {
		b.leaky.ends = true
	}
}

// LeakTimes makes a relay's patience the same on all circuits.
func LeakTimes(c *Config) { c.leaky.times = true }

// Deafen makes a relay whose next takes nothing not look after the one before.
func Deafen(c *Config) { c.leaky.deaf = true }

// Watch tells of what a relay sees, beside frames, of circuits that come from a
// neighbour: new keys, and the frame that is the first under them.
func Watch(c *Config, saw func(from wire.NodeID, what string, frame uint64)) { c.watch = saw }

// Load leaves a quarter of a session's joins, so that each costs work.
func Load(r *Relay, n wire.SessionNumber) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := rate.NewLimiter(1e-9, 1<<20)
	l.AllowN(time.Now(), 3<<18)
	r.sessions[n].joins = l
}

// Violate sends a cell that makes the far end end the circuit.
func Violate(p *Path) error { return p.send(wire.CmdPong, 0, make([]byte, 8)) }

// Fail ends a path as a frame does that does not verify.
func Fail(p *Path) { p.end(errTag) }

// GiveUp ends the circuits that came to a relay from a neighbour, as limits do.
func GiveUp(r *Relay, from wire.NodeID) {
	r.mu.Lock()
	var cs []*circuit
	for c := range r.circuits {
		if c.nb.id == from {
			cs = append(cs, c)
		}
	}
	r.mu.Unlock()
	for _, c := range cs {
		c.end(errStalled)
	}
}

// Open gives how many streams end at a relay.
func Open(r *Relay) int64 { return r.streams.Load() }
