package view

import "time"

// All are ours; any value works.
const (
	firstRest      = time.Second // after a first failure: is it gone, or was it chance?
	firstBackoff   = 5 * time.Second
	longestBackoff = time.Hour
	silentAfter    = 2 // failures in a row that count, see fail

	// DeadAfter is after how many failures in a row that count, with pauses and
	// others' answers between them, a relay counts as dead.
	DeadAfter = 4
)

// health is how a relay did of late. The view keeps three for each, because of
// who could read or write them:
//
//   - own: in this node's own paths, and at visits. Hops are chosen by it, and
//     nothing that others see depends on it: else a relay that fails one circuit
//     asks around who has stopped telling of it, and knows whose that was.
//   - met: at visits, which this node makes on its own clock. What it tells
//     others rests on this one.
//   - asked: in what it asked in the name of others, for index requests. It
//     changes nothing for its own paths: else strangers could make this node
//     fail at relays of their choice, until it trusts none but theirs.
type health struct {
	fails  int       // in a row, of those that count
	failed time.Time // the last that counts
	until  time.Time // not to be used before, after failures
}

// fail notes a failure. The relay is not used again before a short time, which
// is longer and doubles from the second failure on. A failure counts only when
// the pause after the last one is over and somebody else has answered since:
// many tries at once tell no more than one, and where nobody answers it is this
// node that is cut off.
func (h *health) fail(now, heard time.Time) {
	if h.fails > 0 {
		if now.Before(h.until) {
			return
		}
		if !heard.After(h.failed) {
			h.until = now.Add(firstRest)
			return
		}
	}
	h.until = now.Add(firstRest)
	if h.fails > 0 {
		h.until = now.Add(min(firstBackoff<<min(h.fails-1, 20), longestBackoff))
	}
	h.fails++
	h.failed = now
}

// recover notes an answer. It reports whether there had been failures.
func (h *health) recover() bool {
	was := h.fails > 0
	if was {
		h.fails, h.until = 0, time.Time{}
	}
	return was
}

func (h *health) dead() bool { return h.fails >= DeadAfter }

// rests reports whether the pause after a failure is not over.
func (h *health) rests(now time.Time) bool { return now.Before(h.until) }
