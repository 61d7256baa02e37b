package wire

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"
)

// setupHops makes n relays, with the keys to open what is meant for them.
func setupHops(t testing.TB, n int) (ds []Descriptor, keys []*PrivateKey) {
	t.Helper()
	for i := range n {
		k, err := NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		d := Descriptor{Onion: k.Public(), Issued: epoch, Expires: epoch.Add(time.Hour)}
		if err := d.Sign(key(byte(i+1)), "test"); err != nil {
			t.Fatal(err)
		}
		ds, keys = append(ds, d), append(keys, k)
	}
	return ds, keys
}

// walk carries a packet out to the last hop and the reply home. change sees
// each packet before hop i opens it. A hop whose index is refuses says so.
func walk(t testing.TB, ds []Descriptor, keys []*PrivateKey, p []byte, refuses int, change func(i int, p []byte)) (reply []byte, at []HopKeys, err error) {
	t.Helper()
	var opened []*Setup
	for i := range ds {
		if change != nil {
			change(i, p)
		}
		s, err := OpenSetup("test", ds[i].Node, keys[i], p)
		if err != nil {
			return nil, nil, &SetupError{Index: i}
		}
		opened, at = append(opened, s), append(at, s.Keys)
		if want := i == len(ds)-1; s.Last != want {
			t.Fatalf("hop %d: got last %v, want %v", i, s.Last, want)
		}
		if s.Last || i == refuses {
			break
		}
		if s.Next.Node != ds[i+1].Node || s.Next.Verify("test", epoch) != nil || s.Next.Onion != nil {
			t.Fatalf("hop %d: goes on to somebody else", i)
		}
		if len(s.Packet) != FrameSize {
			t.Fatalf("hop %d: sends on %d bytes, want %d", i, len(s.Packet), FrameSize)
		}
		p = s.Packet
	}
	for i := len(opened) - 1; i >= 0; i-- {
		st := StatusOK
		if i == refuses {
			st = StatusRefused
		}
		if reply, err = opened[i].Reply(st, reply); err != nil {
			t.Fatal(err)
		}
		if len(reply) != FrameSize {
			t.Fatalf("hop %d: replies %d bytes, want %d", i, len(reply), FrameSize)
		}
	}
	return reply, at, nil
}

func TestSetup(t *testing.T) {
	for n := 1; n <= MaxHops; n++ {
		ds, keys := setupHops(t, n)
		p, b, err := NewSetup("test", ds)
		if err != nil || len(p) != FrameSize {
			t.Fatalf("%d hops: got %d bytes and %v", n, len(p), err)
		}
		reply, want, err := walk(t, ds, keys, p, -1, nil)
		if err != nil {
			t.Fatalf("%d hops: %v", n, err)
		}
		got, err := b.Finish(reply)
		if err != nil || len(got) != n {
			t.Fatalf("%d hops: got %d keys and %v", n, len(got), err)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%d hops: hop %d has other keys than the builder", n, i)
			}
			for j := range i {
				if got[i].Forward == got[j].Forward || got[i].Hash == got[j].Hash {
					t.Errorf("hops %d and %d share a key", i, j)
				}
			}
		}
	}
	ds, _ := setupHops(t, MaxHops+1)
	for _, ds := range [][]Descriptor{nil, ds, {{}}} {
		if _, _, err := NewSetup("test", ds); err == nil {
			t.Errorf("%d hops: a packet was made", len(ds))
		}
	}
}

// TestSetupTampered: a packet changed anywhere is refused by the next honest
// relay, and one for another network or another relay by everybody.
func TestSetupTampered(t *testing.T) {
	const n = 4
	ds, keys := setupHops(t, n)
	for at := range n {
		for _, pos := range []int{0, 1, offEnc, offEnc + 1100, offBox - 1, offBox, offRest - 1, offRest, FrameSize / 2, FrameSize - 1} {
			p, _, err := NewSetup("test", ds)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = walk(t, ds, keys, p, -1, func(i int, p []byte) {
				if i == at {
					p[pos] ^= 1
				}
			})
			var se *SetupError
			if !errors.As(err, &se) || se.Index != at {
				t.Errorf("byte %d changed before hop %d: got %v", pos, at, err)
			}
		}
	}
	p, _, _ := NewSetup("test", ds)
	if _, err := OpenSetup("main", ds[0].Node, keys[0], p); err == nil {
		t.Error("opened on another network")
	}
	if _, err := OpenSetup("test", ds[1].Node, keys[0], p); err == nil {
		t.Error("opened under another name")
	}
	if _, err := OpenSetup("test", ds[0].Node, keys[1], p); err == nil {
		t.Error("opened with another key")
	}
	for _, b := range [][]byte{nil, p[1:], append(p, 0)} {
		if _, err := OpenSetup("test", ds[0].Node, keys[0], b); err == nil {
			t.Errorf("%d bytes were opened", len(b))
		}
	}
}

// TestReplyTampered: a reply changed anywhere ends the set-up; nothing in it
// has room for a mark.
func TestReplyTampered(t *testing.T) {
	const n = 3
	ds, keys := setupHops(t, n)
	for _, pos := range []int{0, 1, 1100, EncSize + 1, answerSize, answerSize + 1, 2*answerSize + 9, 3*answerSize + 1, FrameSize / 2, FrameSize - 1} {
		p, b, err := NewSetup("test", ds)
		if err != nil {
			t.Fatal(err)
		}
		reply, _, err := walk(t, ds, keys, p, -1, nil)
		if err != nil {
			t.Fatal(err)
		}
		reply[pos] ^= 0x10
		if _, err := b.Finish(reply); err == nil {
			t.Errorf("byte %d changed: was taken", pos)
		}
	}
}

// TestSetupRefused: the builder learns which hop could not be had, from a
// reply as long as any.
func TestSetupRefused(t *testing.T) {
	const n = 5
	ds, keys := setupHops(t, n)
	for at := range n - 1 {
		p, b, err := NewSetup("test", ds)
		if err != nil {
			t.Fatal(err)
		}
		reply, _, err := walk(t, ds, keys, p, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		var se *SetupError
		if _, err := b.Finish(reply); !errors.As(err, &se) || *se != (SetupError{at + 1, StatusRefused}) {
			t.Errorf("hop %d could not go on: got %v", at, err)
		}
	}
}

// TestAnswerIsTheRelays: who has not the onion key cannot answer, though he
// knows all that was sent and what the block holds.
func TestAnswerIsTheRelays(t *testing.T) {
	ds, keys := setupHops(t, 1)
	p, b, _ := NewSetup("test", ds)
	q, _, _ := NewSetup("test", ds) // somebody else's packet to the same relay
	for _, packet := range [][]byte{p, q} {
		s, err := OpenSetup("test", ds[0].Node, keys[0], packet)
		if err != nil {
			t.Fatal(err)
		}
		reply, _ := s.Reply(StatusOK, nil)
		_, err = b.Finish(reply)
		if got, want := err == nil, &packet[0] == &p[0]; got != want {
			t.Errorf("got taken %v, want %v", got, want)
		}
	}
}

func TestGreeting(t *testing.T) {
	k, err := NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	keys := SessionKeys{Key: *k.Public()}
	copy(keys.Sign[:], key(9).Public().(ed25519.PublicKey))
	for _, n := range []int{0, 1, 468, MaxFirst} {
		first := bytes.Repeat([]byte{7}, n)
		g, msg, err := NewGreeting("test", &keys, first)
		if err != nil || len(msg) != HelloSize+n {
			t.Fatalf("%d first bytes: got %d and %v", n, len(msg), err)
		}
		out, got, want, err := OpenGreeting("test", keys.Number(), k, msg)
		if err != nil || !bytes.Equal(got, first) {
			t.Fatalf("%d first bytes: got %d and %v", n, len(got), err)
		}
		bad := out
		bad[EncSize] ^= 1
		if _, err := g.Finish(&bad); err == nil {
			t.Error("a changed answer was taken")
		}
		if have, err := g.Finish(&out); err != nil || have != want {
			t.Errorf("other keys at both ends, %v", err)
		}
		for _, pos := range []int{0, EncSize, len(msg) - 1} {
			c := bytes.Clone(msg)
			c[pos] ^= 1
			if _, _, _, err := OpenGreeting("test", keys.Number(), k, c); err == nil {
				t.Errorf("byte %d changed: was opened", pos)
			}
		}
		if _, _, _, err := OpenGreeting("test", SessionNumber{}, k, msg); err == nil {
			t.Error("opened under another number")
		}
	}
	if _, _, err := NewGreeting("test", &keys, make([]byte, MaxFirst+1)); err == nil {
		t.Error("too many first bytes were taken")
	}
}

func BenchmarkNewSetup(b *testing.B) {
	ds, _ := setupHops(b, MaxHops)
	for b.Loop() {
		if _, _, err := NewSetup("test", ds); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenSetup(b *testing.B) { // one relay, with its reply
	ds, keys := setupHops(b, MaxHops)
	p, _, _ := NewSetup("test", ds)
	next := make([]byte, FrameSize)
	next[0] = Version
	for b.Loop() {
		s, err := OpenSetup("test", ds[0].Node, keys[0], p)
		if err != nil {
			b.Fatal(err)
		}
		s.Reply(StatusOK, next)
	}
}

func BenchmarkRefuseSetup(b *testing.B) { // garbage with a good form
	ds, keys := setupHops(b, 1)
	p, _, _ := NewSetup("test", ds)
	p[FrameSize-1] ^= 1
	for b.Loop() {
		OpenSetup("test", ds[0].Node, keys[0], p)
	}
}

func BenchmarkFinishSetup(b *testing.B) {
	ds, keys := setupHops(b, MaxHops)
	p, s, _ := NewSetup("test", ds)
	reply, _, err := walk(b, ds, keys, p, -1, nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Finish(reply); err != nil {
			b.Fatal(err)
		}
	}
}
