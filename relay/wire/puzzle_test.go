package wire

import (
	"crypto/rand"
	"testing"
)

// solve finds the first nonce that solves p.
func solve(p Puzzle, base [32]byte) uint64 {
	for nonce := uint64(0); ; nonce++ {
		if p.Solves(base, nonce) {
			return nonce
		}
	}
}

func TestPuzzle(t *testing.T) {
	p := Puzzle{Effort: 12, Seed: fill(3)}
	base := p.Base(NodeID{1}, fill(6), SessionNumber{2})
	nonce := solve(p, base)
	for name, other := range map[string][32]byte{
		"gateway": p.Base(NodeID{2}, fill(6), SessionNumber{2}),
		"circuit": p.Base(NodeID{1}, fill(7), SessionNumber{2}),
		"session": p.Base(NodeID{1}, fill(6), SessionNumber{3}),
		"seed":    Puzzle{Effort: 12, Seed: fill(4)}.Base(NodeID{1}, fill(6), SessionNumber{2}),
		"effort":  Puzzle{Effort: 13, Seed: fill(3)}.Base(NodeID{1}, fill(6), SessionNumber{2}),
	} {
		if other == base || p.Solves(other, nonce) {
			t.Errorf("another %s: the same solution", name)
		}
	}
}

// TestPuzzleCost: each bit of effort doubles the work.
func TestPuzzleCost(t *testing.T) {
	const tries = 400
	tried := func(effort byte) float64 {
		sum := 0
		for range tries {
			p := Puzzle{Effort: effort}
			rand.Read(p.Seed[:])
			sum += 1 + int(solve(p, p.Base(NodeID{}, [32]byte{}, SessionNumber{})))
		}
		return float64(sum) / tries
	}
	for _, effort := range []byte{4, 8, 10} {
		// A geometric mean of 400 tries: 5 standard errors are a quarter.
		if got, want := tried(effort), float64(int(1)<<effort); got < 0.75*want || got > 1.25*want {
			t.Errorf("%d bits: got %.0f hashes, want %.0f", effort, got, want)
		}
	}
}

func TestPuzzleMessages(t *testing.T) {
	p, _ := Puzzle{Effort: 16, Seed: fill(3)}.AppendBinary(nil)
	s, _ := Solution{Effort: 16, Nonce: 1 << 60}.AppendBinary(nil)
	for name, b := range map[string][]byte{
		"short": p[:len(p)-1], "long": append(p[:len(p):len(p)], 0), "no effort": make([]byte, PuzzleSize),
		"too much": append([]byte{MaxEffort + 1}, p[1:]...),
	} {
		if _, err := ParsePuzzle(b); err == nil {
			t.Errorf("puzzle, %s: parsed", name)
		}
	}
	for name, b := range map[string][]byte{"short": s[:len(s)-1], "long": append(s[:len(s):len(s)], 0), "no effort": make([]byte, SolutionSize)} {
		if _, err := ParseSolution(b); err == nil {
			t.Errorf("solution, %s: parsed", name)
		}
	}
}

func FuzzPuzzle(f *testing.F) {
	p, _ := Puzzle{Effort: 16, Seed: fill(3)}.AppendBinary(nil)
	s, _ := Solution{Effort: 16, Nonce: 1}.AppendBinary(nil)
	f.Add(p)
	f.Add(s)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParsePuzzle(b); err == nil {
			p.Solves(p.Base(NodeID{}, [32]byte{}, SessionNumber{}), 0)
			got, err := p.AppendBinary(nil)
			same(t, got, b, err)
		}
		if s, err := ParseSolution(b); err == nil {
			got, err := s.AppendBinary(nil)
			same(t, got, b, err)
		}
	})
}

func BenchmarkPuzzleVerify(b *testing.B) {
	p := Puzzle{Effort: 24, Seed: fill(3)}
	for b.Loop() {
		p.Solves(p.Base(NodeID{1}, [32]byte{2}, SessionNumber{3}), 7)
	}
}

func BenchmarkPuzzleHash(b *testing.B) {
	p := Puzzle{Effort: 24, Seed: fill(3)}
	base := p.Base(NodeID{1}, [32]byte{2}, SessionNumber{3})
	var n uint64
	for b.Loop() {
		n++
		p.Solves(base, n)
	}
}
