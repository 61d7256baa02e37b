package fetch

import (
	"bytes"
	"testing"

	"wanderfs/cache/chunk"
)

func TestRequestBytes(t *testing.T) {
	q := request{Kind: kindGet, Tag: 0x01020304, Offset: 65536, Length: 1 << 20, Ref: chunk.PB([]byte("block"))}
	b := appendRequest(nil, q)
	if len(b) != RequestSize {
		t.Fatalf("got %d bytes, want %d", len(b), RequestSize)
	}
	want := []byte{1, 1, 0x70, 0, 1, 2, 3, 4, 0, 1, 0, 0, 0, 0x10, 0, 0, 0x12, 0x20}
	if !bytes.Equal(b[:18], want) {
		t.Errorf("got % x, want % x", b[:18], want)
	}
	if got, err := parseRequest(b); err != nil || got != q {
		t.Errorf("got %+v, %v, want %+v", got, err, q)
	}
	for i, bad := range [][]byte{
		nil, b[:RequestSize-1], append(bytes.Clone(b), 0),
		change(b, 0, 2), change(b, 1, 0), change(b, 1, 3), change(b, 2, 0x71), change(b, 3, 1),
		change(b, 8, 1), change(b, 12, 1), change(b, 13, 0), change(b, 16, 0), change(b, 17, 0x21),
		change(b, 50, 1), change(b, 51, 1),
	} {
		if _, err := parseRequest(bad); err != ErrProtocol {
			t.Errorf("%d: got %v, want %v", i, err, ErrProtocol)
		}
	}
}

func TestAnswerBytes(t *testing.T) {
	a := answer{Status: statusData, Tag: 7, Length: 100, Total: 1 << 20}
	b := appendAnswer(nil, a)
	want := []byte{1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 100, 0, 0x10, 0, 0}
	if !bytes.Equal(b, want) {
		t.Errorf("got % x, want % x", b, want)
	}
	if got, err := parseAnswer(b); err != nil || got != a {
		t.Errorf("got %+v, %v, want %+v", got, err, a)
	}
	for i, bad := range [][]byte{
		nil, b[:AnswerSize-1], append(bytes.Clone(b), 0),
		change(b, 0, 0), change(b, 1, 1), change(b, 1, 4), change(b, 1, 5), change(b, 2, 1), change(b, 3, 1),
		change(b, 8, 1), change(b, 12, 1),
	} {
		if _, err := parseAnswer(bad); err != ErrProtocol {
			t.Errorf("%d: got %v, want %v", i, err, ErrProtocol)
		}
	}
}

func change(b []byte, i int, to byte) []byte {
	b = bytes.Clone(b)
	b[i] = to
	return b
}

func FuzzRequest(f *testing.F) {
	f.Add(appendRequest(nil, request{Kind: kindGet, Tag: 1, Length: wholeLength, Ref: chunk.Raw([]byte("a"))}))
	f.Add(appendRequest(nil, request{Kind: kindCancel, Tag: 9, Offset: 5, Length: 1, Ref: chunk.PB([]byte("a"))}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := parseRequest(b)
		if err != nil {
			return
		}
		if got := appendRequest(nil, q); !bytes.Equal(got, b) {
			t.Errorf("got % x, want % x", got, b)
		}
		for _, total := range []int{0, 1, chunk.Size, chunk.MaxBlock} {
			if off, n := q.clip(total); off < 0 || n < 0 || off+n > total {
				t.Errorf("clip(%d) = %d, %d", total, off, n)
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(appendAnswer(nil, answer{Tag: 1, Length: 5, Total: 10}))
	f.Add(appendAnswer(nil, answer{Tag: 1, Status: statusNotHeld}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b)
		if err != nil {
			return
		}
		if got := appendAnswer(nil, a); !bytes.Equal(got, b) {
			t.Errorf("got % x, want % x", got, b)
		}
		if a.Length > chunk.MaxBlock {
			t.Errorf("length %d", a.Length)
		}
	})
}
