package relay

import (
	"time"

	"golang.org/x/time/rate"

	"wanderfs/relay/wire"
)

// Limits bound what strangers may make a relay hold and do. A zero field has
// the default that it names; negative numbers mean none at all.
type Limits struct {
	Circuits     int           // at a time; 4096
	PerNeighbour int           // circuits from one neighbour; 1024
	HalfOpen     int           // set-ups at a time, this relay's extensions included; 256
	SetUp        time.Duration // for one handshake or extension; 10 s
	Idle         time.Duration // without a frame from the builder's side; 60 s
	Stall        time.Duration // a write to a neighbour without progress; 20 s
	Asks         int           // requests at a time on one circuit; 16
	Streams      int           // at a time on one circuit; 512
	Pool         int64         // bytes of frames held for others, all circuits together; 128 MiB
	Joins        rate.Limit    // a second for one session, bursts of 4 s; 50
	Creates      rate.Limit    // circuits a second from one neighbour, bursts of 8 s; 50
	PerTarget    rate.Limit    // extensions a second to one node, bursts of 8 s; 50
	Rate         rate.Limit    // bytes a second for one neighbour's circuits, bursts of 1/8 s; 1 GiB/s
}

func def[T int | int64 | time.Duration | rate.Limit](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (l Limits) withDefaults() Limits {
	def(&l.Circuits, 4096)
	def(&l.PerNeighbour, 1024)
	def(&l.HalfOpen, 256)
	def(&l.SetUp, 10*time.Second)
	def(&l.Idle, time.Minute)
	def(&l.Stall, 20*time.Second)
	def(&l.Asks, 16)
	def(&l.Streams, 512)
	def(&l.Pool, 128<<20)
	def(&l.Joins, 50)
	def(&l.Creates, 50)
	def(&l.PerTarget, 50)
	def(&l.Rate, 1<<30)
	return l
}

// neighbour is what one neighbour uses. Guarded by Relay.mu, but for bytes.
type neighbour struct {
	circuits int
	creates  *rate.Limiter
	bytes    *rate.Limiter // used by all its circuits
}

const maxKnown = 4096 // neighbours and targets remembered; ours

// neighbourLocked finds or makes the record of a neighbour.
func (r *Relay) neighbourLocked(id wire.NodeID) *neighbour {
	if nb := r.neighbours[id]; nb != nil {
		return nb
	}
	if len(r.neighbours) >= maxKnown {
		for k, nb := range r.neighbours {
			if nb.circuits == 0 {
				delete(r.neighbours, k)
			}
		}
	}
	burst := max(int(min(float64(r.limits.Rate)/8, 1<<30)), 8*wire.FrameSize)
	nb := &neighbour{
		creates: rate.NewLimiter(r.limits.Creates, max(1, int(8*r.limits.Creates))),
		bytes:   rate.NewLimiter(r.limits.Rate, burst),
	}
	r.neighbours[id] = nb
	return nb
}

// mayExtend counts an extension to a target against its limit.
func (r *Relay) mayExtend(to wire.NodeID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.targets[to]
	if l == nil {
		if len(r.targets) >= maxKnown {
			clear(r.targets)
		}
		l = rate.NewLimiter(r.limits.PerTarget, max(1, int(8*r.limits.PerTarget)))
		r.targets[to] = l
	}
	return l.Allow()
}
