package fetch

import (
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"wanderfs/cache/chunk"
)

// Transfer is what a task does, for status.
type Transfer struct {
	Ref        chunk.Ref     // the task's root
	Done       int64         // bytes of its open files that were read; without open files, bytes fetched
	Size       int64         // bytes of its open files; without open files, as Done
	Rate       int64         // bytes per second from the network, lately
	Sources    int           // sessions connected
	StalledFor time.Duration // since bytes last came, while something is wanted
	Why        string        // why nothing comes, in words; empty while it does
}

// State is what is known of one Ref, without asking anybody.
type State struct {
	Sources int    // sessions connected by the task whose root it is
	Err     string // why the last read failed, in words; empty if it did not
}

// Transfers lists the tasks that want something or are in use.
func (f *Fetcher) Transfers() []Transfer {
	f.mu.Lock()
	tasks := make([]*Task, 0, len(f.tasks))
	for _, t := range f.tasks {
		tasks = append(tasks, t)
	}
	f.mu.Unlock()
	var list []Transfer
	for _, t := range tasks {
		if x, ok := t.transfer(); ok {
			list = append(list, x)
		}
	}
	slices.SortFunc(list, func(a, b Transfer) int { return strings.Compare(a.Ref.Name(), b.Ref.Name()) })
	return list
}

// State says what is known of r.
func (f *Fetcher) State(r chunk.Ref) State {
	f.mu.Lock()
	t, s := f.tasks[r], State{Err: f.errs[r]}
	f.mu.Unlock()
	if t != nil {
		t.mu.Lock()
		s.Sources = t.sourcesLocked()
		t.mu.Unlock()
	}
	return s
}

func (t *Task) transfer() (Transfer, bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	busy := len(t.demanded) > 0 || len(t.ahead) > 0
	if !busy && len(t.files) == 0 {
		return Transfer{}, false
	}
	x := Transfer{Ref: t.root, Rate: int64(t.rate.value(now)), Sources: t.sourcesLocked()}
	for _, p := range t.files {
		x.Size += p.size
		x.Done += p.read()
	}
	if len(t.files) == 0 {
		x.Done, x.Size = t.done, t.done
	}
	if len(t.demanded) > 0 {
		x.StalledFor = max(0, now.Sub(later(t.moved, t.demanded[0].since)))
		if x.StalledFor < time.Second {
			x.StalledFor = 0
		} else {
			x.Why = t.stalled
			if x.Why == "" {
				_, x.Why = t.hopeLocked(t.demanded[0])
			}
		}
	}
	return x, true
}

// sourcesLocked counts the sessions that are connected.
func (t *Task) sourcesLocked() int {
	n := 0
	for i, l := range t.links {
		if l.state != live || slices.ContainsFunc(t.links[:i], func(o *link) bool {
			return o.state == live && o.session == l.session
		}) {
			continue
		}
		n++
	}
	return n
}

// progress says which MiB of an open file were read. Guarded by Task.mu.
type progress struct {
	users int
	size  int64
	seen  []uint64 // a bit for each unit
	unit  int64    // bytes
	count int64    // bits set
}

func newProgress(size int64) *progress {
	p := &progress{size: size, unit: chunk.Size}
	for size/p.unit > 1<<20 { // at most 128 KiB of bits, whatever size claims
		p.unit *= 2
	}
	p.seen = make([]uint64, (size/p.unit+64)/64)
	return p
}

func (p *progress) mark(off, n int64) {
	if n <= 0 {
		return
	}
	for u := off / p.unit; u <= (off+n-1)/p.unit && u/64 < int64(len(p.seen)); u++ {
		if bit := uint64(1) << (u % 64); p.seen[u/64]&bit == 0 {
			p.seen[u/64] |= bit
			p.count++
		}
	}
}

func (p *progress) read() int64 {
	if bits.Len64(uint64(p.count)) > 44 {
		return p.size
	}
	return min(p.size, p.count*p.unit)
}

// meter measures a rate that forgets in a few seconds.
type meter struct {
	rate float64 // bytes per second at last
	last time.Time
}

const meterMemory = 2 * time.Second

func (m *meter) add(n int64, now time.Time) {
	m.rate = m.value(now) + float64(n)/meterMemory.Seconds()
	m.last = now
}

func (m *meter) value(now time.Time) float64 {
	if m.last.IsZero() {
		return 0
	}
	return m.rate * math.Exp(-now.Sub(m.last).Seconds()/meterMemory.Seconds())
}
