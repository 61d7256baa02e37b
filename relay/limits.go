package relay

import (
	"runtime"
	"time"

	"golang.org/x/time/rate"

	"wanderfs/relay/wire"
)

// Limits bound what strangers may make a relay hold and do. A zero field has
// the default that it names; negative numbers mean none at all. A neighbour
// carries the circuits of many users, so what one may do suits thousands.
//
// Behind Creates, in processor time (BenchmarkSetUpCost, one hop): a valid
// set-up packet costs who makes it 340 µs, and the relay 344 µs with its reply;
// bytes that are no packet cost the relay 146 µs and their sender nothing. So
// at 50 a second one neighbour takes 1.7 % of a core at most, and waits in line
// behind himself. What is beyond the bucket is reset unread.
type Limits struct {
	// What is held.
	Circuits     int   // at a time; 10240: idle ones fit into 1 GiB
	PerNeighbour int   // circuits from one neighbour; 1024
	Streams      int   // at a time on one circuit; 512
	StreamsAll   int   // streams that end here, all circuits together; 65536
	Asks         int   // requests at a time on one circuit; 16
	Pool         int64 // bytes of frames held for others, all circuits together, with those that links hold unread; 128 MiB
	Known        int   // neighbours, and targets, remembered at a time; 4096

	// Set-up.
	HalfOpen    int           // circuits without an answered first frame; 1024
	HalfOpenPer int           // the same, from one neighbour; 128
	Dials       int           // extensions under way; 512
	DialsPer    int           // the same, for one neighbour; 64
	Workers     int           // handshakes computed at a time; half of the processors
	Hello       time.Duration // until the first frame is there; 5 s
	SetUp       time.Duration // from the end of the dial to the next relay's reply, at most and no less than three quarters of it; half of that to dial it and be taken; 10 s
	Turn        time.Duration // how old a circuit's keys are at least when its builder may change them; 1 min

	// How long, at most and no less than three quarters of it: drawn for each circuit.
	Idle  time.Duration // without a frame from the builder's side; 60 s
	Stall time.Duration // a write to a neighbour without progress; 20 s

	// How often: a second, in bursts of 8 s where nothing else is said.
	Creates   rate.Limit // circuits from one neighbour; 50
	SetUps    rate.Limit // handshakes of all neighbours together, bursts of 4 s; 500: all that come while onion keys live are remembered, some 50 MiB
	Opens     rate.Limit // streams to sessions, from one neighbour; 100
	Queries   rate.Limit // requests at this far end, from one neighbour; 200
	PerTarget rate.Limit // extensions to one node; 50
	Joins     rate.Limit // streams to one session, bursts of 4 s; 50
	Rate      rate.Limit // bytes of one neighbour's circuits, bursts of 1/8 s; 1 GiB/s
}

func def[T int | int64 | time.Duration | rate.Limit](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// WithDefaults gives the limits with all defaults filled in.
func (l Limits) WithDefaults() Limits {
	def(&l.Circuits, 10240)
	def(&l.PerNeighbour, 1024)
	def(&l.Streams, 512)
	def(&l.StreamsAll, 1<<16)
	def(&l.Asks, 16)
	def(&l.Pool, 128<<20)
	def(&l.Known, 4096)
	def(&l.HalfOpen, 1024)
	def(&l.HalfOpenPer, 128)
	def(&l.Dials, 512)
	def(&l.DialsPer, 64)
	def(&l.Workers, max(1, runtime.GOMAXPROCS(0)/2))
	def(&l.Hello, 5*time.Second)
	def(&l.SetUp, 10*time.Second)
	def(&l.Turn, time.Minute)
	def(&l.Idle, time.Minute)
	def(&l.Stall, 20*time.Second)
	def(&l.Creates, 50)
	def(&l.SetUps, 500)
	def(&l.Opens, 100)
	def(&l.Queries, 200)
	def(&l.PerTarget, 50)
	def(&l.Joins, 50)
	def(&l.Rate, 1<<30)
	return l
}

const setUpBurst = 4 // seconds of SetUps; ours

// setUps bounds the handshakes of all neighbours together.
func (l Limits) setUps() *rate.Limiter {
	return rate.NewLimiter(l.SetUps, max(1, int(min(setUpBurst*float64(l.SetUps), 1<<30))))
}

// replays is how many set-ups can come while an onion key lives, so that the
// cache that remembers them is never full. SPEC.md §14
func (l Limits) replays() int {
	return int(min(float64(l.SetUps)*(wire.OnionLife+onionLate).Seconds(), 1<<40)) + l.setUps().Burst()
}
