package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// TestOnionKeysTurn: a key is given out for an hour, opened for two, and then
// gone; another follows it without a gap.
func TestOnionKeysTurn(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	o, err := newOnionKeys(func() time.Time { return now }, 10)
	if err != nil {
		t.Fatal(err)
	}
	type given struct {
		key     *wire.PublicKey
		at, end time.Time
	}
	var all []given
	for range 60 {
		k, end := o.current()
		if n := len(all); n == 0 || all[n-1].key != k {
			all = append(all, given{k, now, end})
		}
		if left := end.Sub(now); left < wire.OnionTurn-onionSlack || left > wire.MaxDescriptorLife {
			t.Errorf("a key is given out that ends in %v", left)
		}
		if got := len(o.keys); got > 2 {
			t.Errorf("%d keys are kept", got)
		}
		for _, g := range all {
			d := wire.Descriptor{Onion: g.key}
			p, _, err := wire.NewSetup("main", []wire.Descriptor{d})
			if err != nil {
				t.Fatal(err)
			}
			_, err = o.open("main", wire.NodeID{}, p)
			if got, want := err == nil, now.Sub(g.at) < wire.OnionLife; got != want {
				t.Errorf("a key of %v ago: got opened %v, want %v", now.Sub(g.at), got, want)
			}
		}
		now = now.Add(10 * time.Minute)
		for _, k := range o.keys {
			k.seen = newReplays(10)
		}
	}
	if got, want := len(all), 10; got != want {
		t.Errorf("got %d keys in ten hours, want %d", got, want)
	}
	o.erase()
	if k, _ := o.current(); k != nil || len(o.keys) > 0 {
		t.Error("a key is left")
	}
}

// TestReplayedSetup: a packet is opened once, by either of the living keys,
// and when no more can be remembered none is opened.
func TestReplayedSetup(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	o, err := newOnionKeys(func() time.Time { return now }, 2)
	if err != nil {
		t.Fatal(err)
	}
	k, _ := o.current()
	packet := func() []byte {
		p, _, err := wire.NewSetup("main", []wire.Descriptor{{Onion: k}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b, c := packet(), packet(), packet()
	forged := append([]byte(nil), a...)
	forged[len(forged)-1] ^= 1
	for _, x := range []struct {
		name string
		p    []byte
		want error
		turn bool
	}{
		{"forged", forged, wire.ErrMalformed, false},
		{"first", a, nil, false},
		{"again", a, errReplay, false},
		{"with another rest", forged, errReplay, false},
		{"after the key turned", a, errReplay, true},
		{"another", b, nil, false},
		{"one too many", c, errFull, false},
	} {
		if x.turn {
			now = now.Add(wire.OnionTurn)
		}
		if _, err := o.open("main", wire.NodeID{}, x.p); !errors.Is(err, x.want) {
			t.Errorf("%s: got %v, want %v", x.name, err, x.want)
		}
	}
}

// TestReplayAtRelay: the second copy of a packet ends the link unanswered.
func TestReplayAtRelay(t *testing.T) {
	a := newLone(t)
	p, _, err := wire.NewSetup("main", []wire.Descriptor{a.d})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{2 * wire.FrameSize, 0} {
		l, _ := a.Dial(context.Background(), a.d)
		if _, err := l.Write(p); err != nil {
			t.Fatal(err)
		}
		n, _ := io.CopyN(io.Discard, l, 2*wire.FrameSize)
		if int(n) != want {
			t.Errorf("copy %d: got %d bytes of an answer, want %d", i, n, want)
		}
		l.Reset()
	}
}

// TestReplayedGreeting: a session answers a reader's first message once.
func TestReplayedGreeting(t *testing.T) {
	s, err := NewSession()
	if err != nil {
		t.Fatal(err)
	}
	keys := s.Keys()
	_, msg, err := wire.NewGreeting("main", &keys, []byte("once"))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, errReplay} {
		if _, _, _, err := s.greet("main", msg); !errors.Is(err, want) {
			t.Errorf("time %d: got %v, want %v", i, err, want)
		}
	}
	s.Erase()
	_, msg, _ = wire.NewGreeting("main", &keys, nil)
	if _, _, _, err := s.greet("main", msg); !errors.Is(err, ErrClosed) {
		t.Errorf("erased: got %v", err)
	}
}

// TestTurn carries frames out and home through relays that turn at different
// frames, as latency makes them, with frames on their way meanwhile.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 4
		out, in, fwd, bwd := hopKeys(n)
		type flying struct {
			b    []byte
			cell byte
		}
		var outward, home [n + 1][]flying // before each hop
		turn := make([]bool, n)
		firstKey := fwd[0].aead
		sent, got, back := byte(0), byte(0), byte(0)
		var seen byte
		step := func() {
			if rnd()%3 == 0 { // the builder sends
				f := newFrame()
				clear(f.cell(out.off()))
				f.cell(out.off())[0] = sent
				if err := out.seal(f); err != nil {
					t.Fatal(err)
				}
				outward[0] = append(outward[0], flying{append([]byte(nil), f.b[:wire.FrameSize]...), sent})
				sent++
			}
			for i := range n { // each hop may carry one on
				if len(outward[i]) == 0 || rnd()%2 == 0 {
					continue
				}
				x := outward[i][0]
				outward[i] = outward[i][1:]
				f := newFrame()
				copy(f.b[:], x.b)
				turned, err := fwd[i].openOrTurn(f, 8*time.Minute)
				if err != nil {
					t.Fatalf("hop %d, frame %d: %v", i, x.cell, err)
				}
				turn[i] = turn[i] || turned
				if i == n-1 {
					if c := f.cell(wire.TagSize)[0]; c != got {
						t.Fatalf("far end got %d, want %d", c, got)
					}
					got++
					continue
				}
				fwd[i].filler(f.b[wire.FrameSize:wire.FrameSize+wire.TagSize], fwd[i].n-1)
				outward[i+1] = append(outward[i+1], flying{append([]byte(nil), f.b[wire.TagSize:wire.TagSize+wire.FrameSize]...), x.cell})
			}
			seal := func(i int, f *frame) []byte {
				if err := bwd[i].step(); err != nil {
					t.Fatal(err)
				}
				if turn[i] {
					bwd[i].turn()
					turn[i] = false
				}
				bwd[i].seal(f.b[:], 0)
				return append([]byte(nil), f.b[:wire.FrameSize]...)
			}
			if rnd()%3 == 0 { // the far end sends
				f := newFrame()
				clear(f.b[:])
				f.cell(wire.TagSize)[0] = back
				home[n-1] = append(home[n-1], flying{seal(n-1, f), back})
				back++
			}
			for i := n - 2; i >= 0; i-- {
				if len(home[i+1]) == 0 || rnd()%2 == 0 {
					continue
				}
				x := home[i+1][0]
				home[i+1] = home[i+1][1:]
				f := newFrame()
				copy(f.b[wire.TagSize:], x.b)
				home[i] = append(home[i], flying{seal(i, f), x.cell})
			}
			if len(home[0]) > 0 && rnd()%2 == 0 {
				x := home[0][0]
				home[0] = home[0][1:]
				f := newFrame()
				copy(f.b[:], x.b)
				off, err := in.open(f)
				if err != nil || f.cell(off)[0] != seen {
					t.Fatalf("frame %d does not come home: %v", x.cell, err)
				}
				seen++
			}
		}
		for range 3 {
			for range 60 {
				step()
			}
			time.Sleep(10 * time.Minute)
			in.turn() // the reading side is told first
			out.turn()
			for in.waits > 0 {
				step()
			}
		}
		if fwd[0].aead == firstKey || got < 20 || seen < 20 {
			t.Errorf("%d frames out, %d home, turned: %v", got, seen, fwd[0].aead != firstKey)
		}
		for i := range n {
			if fwd[i].first != out.hops[i].first || bwd[i].first != in.hops[i].first {
				t.Errorf("hop %d and the builder are in different epochs", i)
			}
		}
	})
}

func rnd() byte {
	var b [1]byte
	rand.Read(b[:])
	return b[0]
}

// TestTurnByCount: after so many frames both ends go on to the next key, and
// so do the records of a stream.
func TestTurnByCount(t *testing.T) {
	out, in, fwd, bwd := hopKeys(2)
	for _, l := range [][]*layer{out.hops, in.hops, fwd, bwd} {
		for _, l := range l {
			l.n = turnAfter - 2 // as if so many had gone
		}
	}
	old := fwd[0].next
	for i := range 5 {
		f := newFrame()
		want := fillCell(f, out.off(), byte(i))
		if err := out.seal(f); err != nil {
			t.Fatal(err)
		}
		for j, l := range fwd {
			if err := l.open(f.b[:], 0); err != nil {
				t.Fatalf("frame %d, hop %d: %v", i, j, err)
			}
			if j == 0 {
				l.filler(f.b[wire.FrameSize:wire.FrameSize+wire.TagSize], l.n-1)
				copy(f.b[:], f.b[wire.TagSize:wire.TagSize+wire.FrameSize])
			}
		}
		if string(f.cell(wire.TagSize)) != string(want) {
			t.Fatalf("frame %d: cell differs", i)
		}
		back(f, bwd)
		if _, err := in.open(f); err != nil {
			t.Fatalf("frame %d home: %v", i, err)
		}
	}
	if fwd[0].next == old || bwd[1].first != turnAfter {
		t.Error("nothing turned")
	}

	tx, rx := newRecord(&[32]byte{1}, time.Hour), newRecord(&[32]byte{1}, time.Hour)
	tx.n, rx.n = turnAfter-2, turnAfter-2
	for i := range 5 {
		b := append(make([]byte, 0, 100), "record"...)
		b, err := tx.seal(kindData, b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := rx.open(kindData, nil, b); err != nil || string(got) != "record" {
			t.Fatalf("record %d: got %q, %v", i, got, err)
		}
	}
	if rx.first != turnAfter {
		t.Error("the records did not turn")
	}
}

// TestTurnOnce: keys that are replaced by count are not replaced by age with
// the same frame.
func TestTurnOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, _, fwd, _ := hopKeys(1)
		out.hops[0].n, fwd[0].n = turnAfter, turnAfter
		time.Sleep(time.Hour)
		if out.due(10 * time.Minute) {
			t.Error("due, though the count has turned the keys")
		}
		f := newFrame()
		fillCell(f, out.off(), 1)
		out.seal(f)
		if turned, err := fwd[0].openOrTurn(f, 8*time.Minute); turned || err != nil {
			t.Errorf("got turned by age %v, %v", turned, err)
		}
		time.Sleep(11 * time.Minute)
		if !out.due(10 * time.Minute) {
			t.Error("not due")
		}
	})
}

// TestRecordTurnByTime: who opens follows who seals, and a changed record is
// refused all the same.
func TestRecordTurnByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tx, rx := newRecord(&[32]byte{1}, 10*time.Minute), newRecord(&[32]byte{1}, 0)
		for i := range 12 {
			b, err := tx.seal(kindData, append(make([]byte, 0, 100), byte(i)))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := rx.open(kindData, nil, b); err != nil || got[0] != byte(i) {
				t.Fatalf("record %d: %v", i, err)
			}
			time.Sleep(3 * time.Minute)
		}
		if tx.first == 0 || rx.first != tx.first {
			t.Errorf("turned at %d and %d", tx.first, rx.first)
		}
		time.Sleep(9 * time.Minute)
		b, _ := tx.seal(kindData, append(make([]byte, 0, 100), 1))
		b[0] ^= 1
		if _, err := rx.open(kindData, nil, b); err == nil {
			t.Error("a changed record was opened")
		}
	})
}
