package relay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// Kinds of frames that a relay sees, by link and direction. Each frame is of one
// of the first ten, and of one of the others where it belongs to what they name:
// the adversary is given for nothing what it could guess from the order.
const (
	setupIn = iota
	setupOut
	takenIn
	takenOut
	replyIn
	replyOut
	forwardIn
	forwardOut
	backwardIn
	backwardOut
	plainKinds

	turnIn      = plainKinds + iota - 11 // the first forward frame under new keys
	turnOut                              // the same, sent on
	turnBackIn                           // the first backward frame that is sealed with new keys, before that
	turnBackOut                          // after it
	solutionIn
	solutionOut
	puzzleIn
	puzzleOut
	closeIn // frames since somebody began to end the path
	closeOut
	closeBackIn
	closeBackOut
	kinds
)

var kindNames = [kinds]string{
	"SETUP in", "SETUP out", "TAKEN in", "TAKEN out", "REPLY in", "REPLY out", "forward in", "forward out", "backward in", "backward out",
	"turned forward in", "turned forward out", "turned backward in", "turned backward out",
	"SOLUTION in", "SOLUTION out", "PUZZLE in", "PUZZLE out",
	"last forward in", "last forward out", "last backward in", "last backward out",
}

// regions are the parts of a frame that are looked at: where heads, filler and
// padding begin and end, if anything does.
var regions = [][2]int{
	{1, 17}, {17, 33}, {1105, 1137}, {1137, 1153}, {2590, 2606}, {8000, 8064},
	{wire.FrameSize - 2589 - 16, wire.FrameSize - 2589}, {wire.FrameSize - 2589, wire.FrameSize - 2573},
	{wire.FrameSize - 112, wire.FrameSize - 96}, {wire.FrameSize - 96, wire.FrameSize - 80}, {wire.FrameSize - 80, wire.FrameSize - 64},
	{wire.FrameSize - 64, wire.FrameSize - 48}, {wire.FrameSize - 48, wire.FrameSize - 32}, {wire.FrameSize - 32, wire.FrameSize - 16}, {wire.FrameSize - 16, wire.FrameSize},
}

// event is one thing that somebody on a circuit sees: a frame or the end of a
// link, or something that only the relay itself knows, or the test.
type event struct {
	from, to wire.NodeID
	b        []byte // a frame
	how      relaytest.End
	what     string // "", "end", "forward keys" or "backward keys" at to; "join" and "close" say what begins
	frame    uint64
}

// record gathers events. It is safe for concurrent use.
type record struct {
	over chan struct{} // capacity 1: a relay is done with a circuit

	mu    sync.Mutex
	all   []event
	left  int           // frames until reached is closed
	reach chan struct{} // nil: nobody waits
}

func newRecord() *record { return &record{over: make(chan struct{}, 1)} }

func (r *record) add(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, e)
	if e.b != nil {
		r.left--
		r.tellLocked()
	}
}

func (r *record) tellLocked() {
	if r.reach != nil && r.left <= 0 {
		close(r.reach)
		r.reach = nil
	}
}

// after gives a channel that is closed when so many more frames were seen.
func (r *record) after(frames int) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	reached := make(chan struct{})
	r.left, r.reach = frames, reached
	r.tellLocked()
	return reached
}

// settle waits until relay i has no more circuits than left. One goroutine
// waits.
func (r *record) settle(n *relaytest.Net, i, left int) {
	for n.Relay(i).Stats().Circuits > left {
		<-r.over
	}
}

func (r *record) mark(what string) { r.add(event{what: what}) }

// take gives what came since the last call.
func (r *record) take() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

// tap makes a network tell all to the record.
func (r *record) tap(cfg *relaytest.Config) {
	cfg.Tamper = func(from, to wire.NodeID, b []byte) { r.add(event{from: from, to: to, b: bytes.Clone(b)}) }
	cfg.Over = func() {
		select {
		case r.over <- struct{}{}:
		default:
		}
	}
	cfg.Ended = func(from, to wire.NodeID, how relaytest.End) { r.add(event{from: from, to: to, what: "end", how: how}) }
}

// sight is what a relay sees of one circuit.
type sight struct {
	k, n   int
	order  string // of what arrives: f from before, b from behind; t and u if it has new keys
	end    string // how it ended: < from before, > from behind, and how
	late   [2]int // frames from before and from behind since the path was being ended
	number [2]int // of all frames
	frames [kinds][][]byte
	blocks string // see discrete
}

// look takes one relay's part out of all that was recorded of a circuit.
func look(all []event, k int, path []wire.NodeID) sight {
	me, prev, next := path[k], path[k-1], path[k+1]
	s := sight{k: k, n: len(path) - 1}
	turned := map[string][]uint64{}
	for _, e := range all {
		if e.to == me && e.from == prev && strings.HasSuffix(e.what, "keys") {
			turned[e.what] = append(turned[e.what], e.frame)
		}
	}
	isTurn := func(what string, at int) bool { return at >= 0 && slices.Contains(turned[what], uint64(at)) }
	var order strings.Builder
	var count [4]int
	join, closing := [4]int{-1, -1, -1, -1}, false
	left := map[wire.NodeID]bool{}
	for _, e := range all {
		var i int
		switch {
		case e.what == "join":
			join = count
			continue
		case e.what == "close":
			closing = true
			continue
		case e.from == prev && e.to == me:
		case e.from == me && e.to == next:
			i = 1
		case e.from == next && e.to == me:
			i = 2
		case e.from == me && e.to == prev:
			i = 3
		default:
			continue
		}
		if e.what == "end" {
			if e.from == me {
				left[e.to] = left[e.to] || e.how != relaytest.Broken
			} else if !left[e.from] && s.end == "" {
				s.end = string("<!>"[i]) + string("CRX"[e.how])
			}
			continue
		}
		if e.what != "" {
			continue
		}
		n := count[i]
		count[i]++
		keep := func(kind int) { s.frames[kind] = append(s.frames[kind], e.b) }
		if i < 2 { // forward
			at := n - 1
			keep(map[bool]int{true: setupIn, false: forwardIn}[n == 0] + i)
			turn := isTurn("forward keys", at)
			if turn {
				keep(turnIn + i)
			}
			if join[i] >= 0 && n == join[i]+1 {
				keep(solutionIn + i)
			}
			if closing {
				keep(closeIn + i)
			}
			if i == 0 {
				order.WriteByte("ft"[bit(turn)])
			}
		} else {
			at := n - 2
			switch n {
			case 0:
				keep(takenIn + i - 2)
			case 1:
				keep(replyIn + i - 2)
			default:
				keep(backwardIn + i - 2)
			}
			turn := isTurn("backward keys", at)
			if turn {
				keep(turnBackIn + i - 2)
			}
			if join[i] >= 0 && n == join[i] {
				keep(puzzleIn + i - 2)
			}
			if closing {
				keep(closeBackIn + i - 2)
			}
			if i == 2 {
				order.WriteByte("bu"[bit(turn)])
			}
		}
		if i%2 == 0 {
			s.number[i/2]++
			if closing {
				s.late[i/2]++
			}
		}
	}
	s.order = order.String()
	return s
}

// discrete is what needs no statistics: sizes, numbers, order, and whether any
// 16 bytes come twice, or are all the same byte.
func (s sight) discrete() string { return s.order + " " + s.blocks }

func (s sight) sizesAndBlocks() string {
	sizes := map[int]bool{}
	blocks := map[uint64]bool{}
	odd := 0
	for _, fs := range s.frames[:plainKinds] {
		for _, f := range fs {
			sizes[len(f)] = true
			for i := len(f) % 16; i < len(f); i += 16 {
				b := binary.LittleEndian.Uint64(f[i:]) // half of 16 bytes: as good for bytes that look random
				if blocks[b] || b == bits.RotateLeft64(b, 8) {
					odd++
				}
				blocks[b] = true
			}
		}
	}
	return fmt.Sprintf("%v odd %d", sizes, odd)
}

// features are the mean bytes of all regions, in single circuits.
func (s sight) features() []float64 {
	var v []float64
	for _, fs := range s.frames {
		for _, r := range regions {
			sum, n := 0, 0
			for _, f := range fs {
				for _, x := range f[r[0]:r[1]] {
					sum += int(x)
					n++
				}
			}
			mean := 127.5
			if n > 0 {
				mean = float64(sum) / float64(n)
			}
			v = append(v, mean)
		}
	}
	return v
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
