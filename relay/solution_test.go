package relay

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// TestSolutionBound: a solution serves one JOIN, of one session, on one
// circuit, while it is fresh, at the effort that was asked.
func TestSolutionBound(t *testing.T) {
	synctest.Test(t, testSolutionBound) // the bucket fills with time, not with work
}

func testSolutionBound(t *testing.T) {
	const effort = 14 // bits; a solution fits another puzzle by chance once in 2^14
	a := newLone(t)
	a.r.limits.Joins = 5 // a bucket of 20
	now := time.Now()
	a.r.cfg.Now = func() time.Time { return now }
	s, _ := NewSession()
	s.SetEffort(effort)
	l, err := a.path(t).Listen(context.Background(), s, [32]byte{5})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			if _, err := l.Accept(context.Background()); err != nil {
				return
			}
		}
	}()
	join := func(p *Path) (wire.Puzzle, wire.Command) {
		_, m, err := wire.NewGreeting("main", &s.keys, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := wire.Join{Number: s.Number(), MAC: wire.JoinMAC(wire.Verifier([32]byte{5}, a.d.Node), p.hash, s.Number()), Msg: m}.AppendBinary(nil)
		return p.sayPuzzle(t, wire.CmdJoin, b)
	}
	solve := func(p *Path, z wire.Puzzle, n wire.SessionNumber, effort byte) {
		base := z.Base(a.d.Node, p.hash, s.Number())
		x := wire.Solution{Number: n, Effort: effort}
		for !z.Solves(base, x.Nonce) {
			x.Nonce++
		}
		b, _ := x.AppendBinary(nil)
		if err := p.send(wire.CmdSolution, 0, b); err != nil {
			t.Fatal(err)
		}
	}
	p, q := a.path(t), a.path(t)
	var z wire.Puzzle
	for range 200 { // until work is asked for
		var cmd wire.Command
		if z, cmd = join(p); cmd == wire.CmdPuzzle {
			break
		}
	}
	if z.Effort != effort {
		t.Fatalf("got a puzzle of %d bits, want %d", z.Effort, effort)
	}
	refused := func(name string, p *Path) {
		t.Helper()
		if _, cmd := join(p); cmd != wire.CmdPuzzle {
			t.Errorf("%s: got command %d, want PUZZLE", name, cmd)
		}
	}
	other := wire.SessionNumber{1}
	solve(q, z, s.Number(), effort)
	refused("another circuit's", q)
	solve(p, z, other, effort)
	refused("another session's", p)
	solve(p, wire.Puzzle{Effort: 1, Seed: z.Seed}, s.Number(), 1)
	refused("less effort", p)
	solve(p, wire.Puzzle{Effort: effort, Seed: [32]byte{1}}, s.Number(), effort+1)
	refused("another puzzle's", p)
	solve(p, z, s.Number(), effort)
	if _, cmd := join(p); cmd != wire.CmdJoined && cmd != wire.CmdWindow {
		t.Errorf("good: got command %d, want JOINED", cmd)
	}
	refused("none", p)
	solve(p, z, s.Number(), effort)
	refused("used", p)
	z, _ = join(p)
	now = now.Add(2 * puzzleUnit)
	solve(p, z, s.Number(), z.Effort)
	refused("old", p)
	z, _ = join(p)
	now = now.Add(puzzleUnit)
	solve(p, z, s.Number(), z.Effort)
	if _, cmd := join(p); cmd != wire.CmdJoined && cmd != wire.CmdWindow {
		t.Errorf("of the unit before: got command %d, want JOINED", cmd)
	}
}

// sayPuzzle is say, and gives the puzzle if that is the answer.
func (p *Path) sayPuzzle(t *testing.T, cmd wire.Command, data []byte) (z wire.Puzzle, answer wire.Command) {
	t.Helper()
	s := puzzleSpy{got: make(chan wire.Command, 8), z: &z}
	var id uint32
	if err := p.add(s, &id); err != nil {
		t.Fatal(err)
	}
	if p.send(cmd, id, data) != nil {
		return z, 0
	}
	answer = <-s.got
	return z, answer
}

type puzzleSpy struct {
	got chan wire.Command
	z   *wire.Puzzle
}

func (s puzzleSpy) cell(f *frame) error {
	if f.h.Cmd == wire.CmdPuzzle {
		z, err := wire.ParsePuzzle(f.data)
		if err != nil {
			return err
		}
		*s.z = z
	}
	s.got <- f.h.Cmd
	f.free()
	return nil
}

func (s puzzleSpy) fail(error) { s.got <- 0 }

// BenchmarkSolution is what a gateway spends on a wrong solution.
func BenchmarkSolution(b *testing.B) {
	e := &farEnd{c: &circuit{r: &Relay{cfg: Config{Now: time.Now}}}}
	to := &standing{effort: 16}
	e.c.r.sessions = map[wire.SessionNumber]*standing{{}: to}
	f := newFrame()
	f.data, _ = wire.Solution{Effort: 20, Nonce: 1}.AppendBinary(nil)
	b.ReportAllocs()
	for b.Loop() {
		e.budget = spare
		if err := e.solution(f); err != nil {
			b.Fatal(err)
		}
	}
}
