package relay

import (
	"cmp"
	"math"
	"runtime"
	"runtime/metrics"
	"slices"
)

// crawl is how many frames a circuit that waits must get rid of between two
// looks, or it counts as stalled. Ours: a builder who reads less than 32 KiB a
// second ties up a link's window for next to nothing.
const crawl = 2

// pace is what keepHouse knows of one circuit.
type pace struct {
	moved [2]int64 // frames, at the last look
	since int64    // first look at which it stood still, in Unix nanoseconds of the write that waited; 0: it moves
}

// look notes how far the circuit has come, and gives since when it has stood
// still; 0 if it moves.
func (p *pace) look(c *circuit) int64 {
	still := int64(0)
	for i, w := range []*moving{&c.toPrev, &c.toNext} {
		moved, since := w.moved.Load(), w.since.Load()
		if since != 0 && moved-p.moved[i] < crawl && (still == 0 || since < still) {
			still = since
		}
		p.moved[i] = moved
	}
	if still == 0 || p.since == 0 {
		p.since = still
	}
	return p.since
}

// endStalled ends the circuits that have stood still for longest when there
// are too many of them and memory is short: behind each there may be a whole
// window of bytes in the link that it does not read, and nobody but the link
// knows whether there is. While memory lasts none is ended: ten thousand idle
// circuits stand still, too, when a line or this machine is slow for a second,
// and hold next to nothing.
func (r *Relay) endStalled() {
	type stalled struct {
		c     *circuit
		since int64
	}
	var all []stalled
	r.mu.Lock()
	for c := range r.circuits {
		if since := c.pace.look(c); since != 0 {
			all = append(all, stalled{c, since})
		}
	}
	r.mu.Unlock()
	if len(all) <= r.limits.Stalled || !memoryShort(r.limits.Memory) {
		return
	}
	slices.SortFunc(all, func(a, b stalled) int { return cmp.Compare(a.since, b.since) })
	for _, s := range all[:len(all)-r.limits.Stalled] {
		s.c.end(errStalled)
	}
}

// memoryShort tells whether the process's heap takes so many bytes, garbage
// aside.
func memoryShort(limit int64) bool {
	if heapBytes() < limit {
		return false
	}
	runtime.GC() // at most once a look, and only while many stand still
	return heapBytes() >= limit
}

func heapBytes() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return math.MaxInt64 // unknown: as if it were short
	}
	return int64(s[0].Value.Uint64())
}
