package relay

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"time"

	"wanderfs/relay/wire"
)

// DefaultEffort is how many bits of work a session asks of its readers while
// many of them join: some milliseconds. A gateway asks for up to extraEffort
// bits more.
const DefaultEffort = 16

const (
	extraEffort = 8                // SPEC.md §8.3
	puzzleUnit  = 30 * time.Second // SPEC.md §8.3
	puzzleTries = 3                // solutions that a Join makes; ours
	puzzleSlice = 512              // nonces tried in a row, some 50 µs; ours
)

// demand gives the effort that a join costs now, 0 for none: nothing until
// half of the bucket is used up, then ever more. Work that keeps pace with
// the bucket is the price that it settles at.
func (s *standing) demand() byte {
	left := max(0, s.joins.Tokens()/float64(s.joins.Burst()))
	if s.effort == 0 || left >= 0.5 {
		return 0
	}
	return s.effort + byte(extraEffort*(1-2*left))
}

// puzzle makes the puzzle of one circuit, session and moment anew, so that
// nobody needs to remember it.
func (e *farEnd) puzzle(n wire.SessionNumber, effort byte, unit int64) wire.Puzzle {
	h := hmac.New(sha256.New, e.c.r.secret[:])
	h.Write(e.c.hash[:])
	h.Write(n[:])
	var b [17]byte
	b[0] = effort
	binary.BigEndian.PutUint64(b[1:], e.solutions)
	binary.BigEndian.PutUint64(b[9:], uint64(unit))
	h.Write(b[:])
	return wire.Puzzle{Effort: effort, Seed: [32]byte(h.Sum(nil))}
}

func (e *farEnd) unit() int64 { return e.c.r.cfg.Now().UnixNano() / int64(puzzleUnit) }

// pose answers a JOIN with a puzzle.
func (e *farEnd) pose(id uint32, n wire.SessionNumber, effort byte) error {
	b, _ := e.puzzle(n, effort, e.unit()).AppendBinary(nil)
	return e.say(id, wire.CmdPuzzle, b)
}

// solution takes a reader's work for his next JOIN.
func (e *farEnd) solution(f *frame) error {
	s, err := wire.ParseSolution(f.data)
	if err != nil {
		return err
	}
	if f.h.Stream != 0 {
		return errProtocol
	}
	r := e.c.r
	r.mu.Lock()
	to := r.sessions[s.Number]
	r.mu.Unlock()
	// A puzzle of less effort than the session's was never posed: its unknown
	// seed would not hinder a guess.
	if to == nil || s.Effort < to.effort {
		return e.unknown()
	}
	for unit, k := e.unit(), int64(0); k < 2; k++ {
		p := e.puzzle(s.Number, s.Effort, unit-k)
		if p.Solves(p.Base(r.id, e.c.hash, s.Number), s.Nonce) {
			e.solutions++ // which makes this one worthless from now on
			e.solved, e.paid = s.Number, true
			return nil
		}
	}
	return e.unknown()
}

// spend tells whether work was done for this session's next JOIN, once.
func (e *farEnd) spend(n wire.SessionNumber) bool {
	ok := e.paid && e.solved == n
	if ok {
		e.paid = false
	}
	return ok
}

// puzzleError is a gateway's answer to a JOIN that asks for work.
type puzzleError struct{ wire.Puzzle }

func (*puzzleError) Error() string { return "gateway asks for work" }

// pay solves a puzzle and sends the solution. It gives way to all other work of
// the process again and again: a gateway can make a reader work for seconds
// whenever it likes, and if a relay took longer for its set-ups meanwhile, who
// tries all relays would know which one the reader runs.
func (p *Path) pay(ctx context.Context, n wire.SessionNumber, z wire.Puzzle) error {
	if int(z.Effort) > p.b.MaxEffort {
		return fmt.Errorf("puzzle of %d bits: %w", z.Effort, ErrRefused)
	}
	base := z.Base(p.last, p.hash, n)
	var nonce uint64
	for ; !z.Solves(base, nonce); nonce++ {
		if nonce%puzzleSlice == 0 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			runtime.Gosched()
		}
	}
	b, _ := wire.Solution{Number: n, Effort: z.Effort, Nonce: nonce}.AppendBinary(nil)
	return p.send(wire.CmdSolution, 0, b)
}
