package wire

import (
	"bytes"
	"testing"
)

// same fails if what was parsed does not encode to the same bytes.
func same(t *testing.T, got, want []byte, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("what parses does not encode: %v", err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("encodes to other bytes")
	}
}

func FuzzDescriptor(f *testing.F) {
	b, _ := testDescriptor(1).AppendBinary(nil)
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDescriptor(b)
		if err != nil {
			return
		}
		d.Verify("test", epoch)
		got, err := d.AppendBinary(nil)
		same(t, got, b, err)
	})
}

func FuzzSource(f *testing.F) {
	b, _ := testSource().AppendBinary(nil)
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSource(b)
		if err != nil {
			return
		}
		s.Verify("test", epoch)
		got, err := s.AppendBinary(nil)
		same(t, got, b, err)
	})
}

func FuzzDial(f *testing.F) {
	b, _ := testDescriptor(1).AppendDial(nil)
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDial(b)
		if err != nil {
			return
		}
		d.Verify("test", epoch)
		got, err := d.AppendDial(nil)
		same(t, got, b, err)
	})
}

// FuzzSetup feeds blocks that are sealed as they should be to a relay: all
// else is refused by the seal.
func FuzzSetup(f *testing.F) {
	dial, _ := testDescriptor(2).AppendDial(nil)
	share := hybrid(7).Public()
	f.Add(append(append([]byte{roleOn}, dial...), share[:]...), []byte{1, 2, 3})
	f.Add(append(make([]byte, 1+DialSize), share[:]...), []byte{})
	f.Add(append(append([]byte{2}, dial...), share[:]...), []byte{})
	f.Add([]byte{roleLast}, []byte{9})
	k, node := hybrid(1), testDescriptor(1).Node
	f.Fuzz(func(t *testing.T, block, rest []byte) {
		h, err := initiate(circuitInfo("test", node), k.Public())
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, FrameSize)
		p[0] = Version
		copy(p[offEnc:], h.enc[:])
		copy(p[offRest:], rest)
		b := make([]byte, blockSize)
		copy(b, block)
		box, err := h.send.Seal(setupAAD(p), b)
		if err != nil {
			t.Fatal(err)
		}
		copy(p[offBox:], box)
		s, err := OpenSetup("test", node, k, p)
		if err != nil {
			return
		}
		got := make([]byte, 1, blockSize)
		if !s.Last {
			got[0] = roleOn
			got, err = s.Next.AppendDial(got)
			if len(s.Packet) != FrameSize {
				t.Fatalf("sends on %d bytes", len(s.Packet))
			}
		} else {
			got = got[:1+DialSize]
		}
		same(t, got, b[:1+DialSize], err)
	})
}

// FuzzReply feeds bodies to a builder that waits for a reply.
func FuzzReply(f *testing.F) {
	ds, keys := setupHops(f, 2)
	p, b, err := NewSetup("test", ds)
	if err != nil {
		f.Fatal(err)
	}
	reply, _, err := walk(f, ds, keys, p, -1, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(reply)
	f.Add(reply[1:])
	f.Fuzz(func(t *testing.T, c []byte) {
		if _, err := b.Finish(c); err == nil && !bytes.Equal(c, reply) {
			t.Fatal("another reply was taken")
		}
	})
}

// FuzzPacket feeds whole packets to a relay, and its own with bytes changed:
// only what was sealed opens. Each process of the fuzzer has its own keys.
func FuzzPacket(f *testing.F) {
	ds, keys := setupHops(f, 2)
	p, _, err := NewSetup("test", ds)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p, uint16(0), byte(0))
	f.Add(p[:100], uint16(offBox), byte(1))
	f.Fuzz(func(t *testing.T, c []byte, at uint16, x byte) {
		d := bytes.Clone(p)
		d[int(at)%len(d)] ^= x
		for _, b := range [][]byte{c, d} {
			if _, err := OpenSetup("test", ds[0].Node, keys[0], b); err == nil && !bytes.Equal(b, p) {
				t.Fatal("another packet was opened")
			}
		}
	})
}

// FuzzGreeting carries first bytes to a session, changed on the way there or
// back or not, and feeds it other bytes.
func FuzzGreeting(f *testing.F) {
	k, err := NewPrivateKey()
	if err != nil {
		f.Fatal(err)
	}
	keys := testSource().Keys
	keys.Key = *k.Public()
	f.Add([]byte("first"), uint16(9), byte(0), uint16(0), byte(0))
	f.Add([]byte{}, uint16(EncSize+1), byte(4), uint16(EncSize), byte(1))
	f.Add(make([]byte, HelloSize), uint16(0), byte(0), uint16(3), byte(1))
	f.Fuzz(func(t *testing.T, first []byte, at uint16, x byte, back uint16, y byte) {
		if _, _, _, err := OpenGreeting("test", keys.Number(), k, first); err == nil {
			t.Fatal("bytes that nobody sealed were opened")
		}
		g, m1, err := NewGreeting("test", &keys, first)
		if err != nil {
			if len(first) <= MaxFirst {
				t.Fatal(err)
			}
			return
		}
		m1[int(at)%len(m1)] ^= x
		m2, got, want, err := OpenGreeting("test", keys.Number(), k, m1)
		if (err == nil) != (x == 0) || err == nil && !bytes.Equal(got, first) {
			t.Fatalf("changed by %d: got %d first bytes and %v", x, len(got), err)
		}
		if err != nil {
			return
		}
		m2[int(back)%len(m2)] ^= y
		have, err := g.Finish(&m2)
		if (err == nil) != (y == 0) || err == nil && have != want {
			t.Fatalf("answer changed by %d: got %v", y, err)
		}
	})
}

func FuzzCell(f *testing.F) {
	f.Add([]byte{Version, byte(CmdData), 0, 1, 0, 0, 0, 1, 'x'})
	f.Add([]byte{Version, byte(CmdPong), 0x3f, 0x68, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := make([]byte, CellSize)
		copy(c, b)
		h, data, err := ParseCell(c)
		if err == nil {
			same(t, cell(h, data), c, nil)
		}
		if len(b) != CellSize {
			if _, _, err := ParseCell(b); err == nil {
				t.Fatal("a cell of another size was parsed")
			}
		}
	})
}

// FuzzMessages feeds the data of cells to every decoder of such data.
func FuzzMessages(f *testing.F) {
	l, _ := Listen{Keys: testSource().Keys}.AppendBinary(nil)
	j, _ := Join{Msg: make([]byte, HelloSize+3)}.AppendBinary(nil)
	for i, b := range [][]byte{l, j, AppendAsk(nil, 3), AppendAnswer(nil, StatusOK, 3), AppendWindow(nil, 64), {1}, make([]byte, 8), make([]byte, WelcomeSize), make([]byte, HelloSize)} {
		f.Add(byte(i), b)
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		switch which % 8 {
		case 0:
			if v, err := ParseListen(b); err == nil {
				v.Verify("test", NodeID{}, [32]byte{})
				got, err := v.AppendBinary(nil)
				same(t, got, b, err)
			}
		case 1:
			if v, err := ParseJoin(b); err == nil {
				got, err := v.AppendBinary(nil)
				same(t, got, b, err)
			}
		case 2:
			if n, rest, err := ParseAsk(b); err == nil {
				same(t, append(AppendAsk(nil, n), rest...), b, nil)
			}
		case 3:
			if s, n, rest, err := ParseAnswer(b); err == nil {
				same(t, append(AppendAnswer(nil, s, n), rest...), b, nil)
			}
		case 4:
			if n, err := ParseWindow(b); err == nil {
				same(t, AppendWindow(nil, n), b, nil)
			}
		case 5:
			if r, err := ParseReset(b); err == nil {
				same(t, []byte{byte(r)}, b, nil)
			}
		case 6:
			if p, err := ParsePing(b); err == nil {
				same(t, p[:], b, nil)
			}
		case 7:
			if m, err := ParseOpened(b); err == nil {
				same(t, m[:], b, nil)
			}
			if m, err := ParseOpen(b); err == nil {
				same(t, m, b, nil)
			}
		}
	})
}
