package relay

import "golang.org/x/time/rate"

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

// WithoutFiller makes a relay, or paths, use zeros where filler belongs.
func WithoutFiller(c *Config, b *Builder) {
	if c != nil {
		c.plain = true
	}
	if b != nil {
		b.plain = true
	}
}

// Open gives how many streams end at a relay.
func Open(r *Relay) int64 { return r.streams.Load() }
