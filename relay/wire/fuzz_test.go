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

func FuzzHandshake(f *testing.F) {
	f.Add(AppendHandshake(nil, [HandshakeSize]byte{1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		msg, err := ParseHandshake(b)
		if err == nil {
			same(t, AppendHandshake(nil, msg)[:1+HandshakeSize], b[:1+HandshakeSize], nil)
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
	x, _ := Extend{To: testDescriptor(1), Msg: [HandshakeSize]byte{1}}.AppendBinary(nil)
	y, _ := Extended{Msg: [HandshakeSize]byte{1}}.AppendBinary(nil)
	l, _ := Listen{Keys: testSource().Keys}.AppendBinary(nil)
	j, _ := Join{Msg: make([]byte, HandshakeSize+3)}.AppendBinary(nil)
	for i, b := range [][]byte{x, y, l, j, AppendAsk(nil, 3), AppendAnswer(nil, StatusOK, 3), AppendWindow(nil, 64), {1}, make([]byte, 8), make([]byte, HandshakeSize)} {
		f.Add(byte(i), b)
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		switch which % 10 {
		case 0:
			if v, err := ParseExtend(b); err == nil {
				got, err := v.AppendBinary(nil)
				same(t, got, b, err)
			}
		case 1:
			if v, err := ParseExtended(b); err == nil {
				got, err := v.AppendBinary(nil)
				same(t, got, b, err)
			}
		case 2:
			if v, err := ParseListen(b); err == nil {
				v.Verify("test", NodeID{}, [32]byte{})
				got, err := v.AppendBinary(nil)
				same(t, got, b, err)
			}
		case 3:
			if v, err := ParseJoin(b); err == nil {
				got, err := v.AppendBinary(nil)
				same(t, got, b, err)
			}
		case 4:
			if n, rest, err := ParseAsk(b); err == nil {
				same(t, append(AppendAsk(nil, n), rest...), b, nil)
			}
		case 5:
			if s, n, rest, err := ParseAnswer(b); err == nil {
				same(t, append(AppendAnswer(nil, s, n), rest...), b, nil)
			}
		case 6:
			if n, err := ParseWindow(b); err == nil {
				same(t, AppendWindow(nil, n), b, nil)
			}
		case 7:
			if r, err := ParseReset(b); err == nil {
				same(t, []byte{byte(r)}, b, nil)
			}
		case 8:
			if p, err := ParsePing(b); err == nil {
				same(t, p[:], b, nil)
			}
		case 9:
			if m, err := ParseOpened(b); err == nil {
				same(t, m[:], b, nil)
			}
			if m, err := ParseOpen(b); err == nil {
				same(t, m, b, nil)
			}
		}
	})
}
