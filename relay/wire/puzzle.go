package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// Sizes of the puzzle's messages in bytes, and bounds of its effort in bits.
// SPEC.md §8.3
const (
	PuzzleSize   = 1 + 32
	SolutionSize = 32 + 1 + 8

	MaxListenEffort = 24 // what a session may ask for
	MaxEffort       = 32 // what a gateway may ask for, more under load
)

// Puzzle is work that a gateway asks for before a JOIN: to find a nonce for
// which a hash begins with Effort zero bits. The gateway holds no state for
// it. SPEC.md §8.3
type Puzzle struct {
	Effort byte // bits, 1 to MaxEffort
	Seed   [32]byte
}

// AppendBinary appends p.
func (p Puzzle) AppendBinary(b []byte) ([]byte, error) {
	return append(append(b, p.Effort), p.Seed[:]...), nil
}

// ParsePuzzle reads exactly one Puzzle.
func ParsePuzzle(b []byte) (Puzzle, error) {
	if len(b) != PuzzleSize || b[0] == 0 || b[0] > MaxEffort {
		return Puzzle{}, ErrMalformed
	}
	return Puzzle{Effort: b[0], Seed: [32]byte(b[1:])}, nil
}

// Base is what a nonce is hashed with. It holds the gateway and the reader's
// circuit, so that nobody can let others do his work, nor use it twice.
func (p Puzzle) Base(gateway NodeID, circuit [32]byte, n SessionNumber) [32]byte {
	b := make([]byte, 0, 192)
	b = append(b, "wanderfs/puzzle/1\x00"...)
	b = append(b, gateway[:]...)
	b = append(b, circuit[:]...)
	b = append(b, n[:]...)
	b = append(b, p.Effort)
	return sha256.Sum256(append(b, p.Seed[:]...))
}

// Solves reports whether a nonce is worth the effort.
func (p Puzzle) Solves(base [32]byte, nonce uint64) bool {
	var b [32 + 8]byte
	copy(b[:], base[:])
	binary.BigEndian.PutUint64(b[32:], nonce)
	h := sha256.Sum256(b[:])
	return bits.LeadingZeros64(binary.BigEndian.Uint64(h[:])) >= int(p.Effort)
}

// Solution goes before the next JOIN of its circuit. SPEC.md §8.3
type Solution struct {
	Number SessionNumber
	Effort byte // the puzzle's
	Nonce  uint64
}

// AppendBinary appends s.
func (s Solution) AppendBinary(b []byte) ([]byte, error) {
	b = append(append(b, s.Number[:]...), s.Effort)
	return binary.BigEndian.AppendUint64(b, s.Nonce), nil
}

// ParseSolution reads exactly one Solution. It does not verify it.
func ParseSolution(b []byte) (Solution, error) {
	if len(b) != SolutionSize || b[32] == 0 || b[32] > MaxEffort {
		return Solution{}, ErrMalformed
	}
	return Solution{Number: SessionNumber(b[:32]), Effort: b[32], Nonce: binary.BigEndian.Uint64(b[33:])}, nil
}
