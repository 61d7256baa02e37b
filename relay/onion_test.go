package relay

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"wanderfs/relay/wire"
)

func fillCell(f *frame, off int, seed byte) []byte {
	rand.NewChaCha8([32]byte{seed}).Read(f.cell(off))
	return bytes.Clone(f.cell(off))
}

// TestForward carries frames out through 1 to 8 relays, each with nothing but
// its own keys.
func TestForward(t *testing.T) {
	for n := 1; n <= wire.MaxHops; n++ {
		out, _, fwd, _ := hopKeys(n)
		for i := range 20 {
			f := newFrame()
			want := fillCell(f, out.off(), byte(i))
			if err := out.seal(f); err != nil {
				t.Fatal(err)
			}
			link := bytes.Clone(f.b[:wire.FrameSize])
			for j, l := range fwd {
				g := newFrame()
				copy(g.b[:], link)
				if err := l.open(g.b[:], 0); err != nil {
					t.Fatalf("%d hops, frame %d, hop %d: %v", n, i, j, err)
				}
				if j == n-1 {
					if !bytes.Equal(g.cell(wire.TagSize), want) {
						t.Fatalf("%d hops, frame %d: cell differs", n, i)
					}
					break
				}
				l.filler(g.b[wire.FrameSize:wire.FrameSize+wire.TagSize], l.n-1)
				link = bytes.Clone(g.b[wire.TagSize : wire.TagSize+wire.FrameSize])
			}
		}
	}
}

// TestBackward carries frames home through 1 to 8 relays.
func TestBackward(t *testing.T) {
	for n := 1; n <= wire.MaxHops; n++ {
		_, in, _, bwd := hopKeys(n)
		for i := range 20 {
			f := newFrame()
			want := fillCell(f, wire.TagSize, byte(i))
			clear(f.b[wire.TagSize+wire.CellSize : wire.TagSize+wire.BodySize])
			bwd[n-1].seal(f.b[:], 0)
			link := bytes.Clone(f.b[:wire.FrameSize])
			for j := n - 2; j >= 0; j-- {
				g := newFrame()
				copy(g.b[wire.TagSize:], link)
				bwd[j].seal(g.b[:], 0)
				link = bytes.Clone(g.b[:wire.FrameSize])
			}
			g := newFrame()
			copy(g.b[:], link)
			off, err := in.open(g)
			if err != nil {
				t.Fatalf("%d hops, frame %d: %v", n, i, err)
			}
			if !bytes.Equal(g.cell(off), want) {
				t.Fatalf("%d hops, frame %d: cell differs", n, i)
			}
		}
	}
}

// TestForwardRefusals flips a bit, repeats, and leaves out frames: the first
// honest relay refuses.
func TestForwardRefusals(t *testing.T) {
	for _, name := range []string{"flip first", "flip middle", "flip last", "replay", "gap"} {
		out, _, fwd, _ := hopKeys(3)
		a, b := newFrame(), newFrame()
		fillCell(a, out.off(), 1)
		fillCell(b, out.off(), 2)
		out.seal(a)
		out.seal(b)
		first := bytes.Clone(a.b[:])
		next := bytes.Clone(b.b[:])
		switch name {
		case "flip first":
			first[0] ^= 1
		case "flip middle":
			first[wire.FrameSize/2] ^= 0x10
		case "flip last":
			first[wire.FrameSize-1] ^= 0x80
		case "replay":
			next = bytes.Clone(first)
		case "gap":
			first = next
		}
		err := fwd[0].open(first, 0)
		if err == nil {
			err = fwd[0].open(next, 0)
		}
		if err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

// TestBackwardRefusals changes a frame at each of the hops on its way home.
func TestBackwardRefusals(t *testing.T) {
	const n = 4
	for at := range n {
		for _, pos := range []int{0, 20, wire.FrameSize / 2, wire.FrameSize - 200} {
			_, in, _, bwd := hopKeys(n)
			f := newFrame()
			clear(f.b[:])
			for j := n - 1; j >= 0; j-- {
				if j < n-1 {
					copy(f.b[wire.TagSize:], f.b[:wire.FrameSize])
				}
				bwd[j].seal(f.b[:], 0)
				if j == at {
					f.b[pos] ^= 4
				}
			}
			if _, err := in.open(f); err == nil {
				t.Errorf("bit flipped behind hop %d at %d: was taken", at, pos)
			}
		}
	}
}

// TestKeysSpent: a key is not used beyond its number of frames.
func TestKeysSpent(t *testing.T) {
	l := newLayer(new([32]byte))
	f := newFrame()
	l.n = maxFrames - 1
	if err := l.seal(f.b[:], 0); err != nil {
		t.Errorf("last frame: %v", err)
	}
	if err := l.seal(f.b[:], 0); err != errSpent {
		t.Errorf("one more: got %v, want %v", err, errSpent)
	}
	if err := l.open(f.b[:], 0); err != errSpent {
		t.Errorf("open one more: got %v, want %v", err, errSpent)
	}
}

func TestFifo(t *testing.T) {
	var q fifo
	in, out := uint32(0), uint32(0)
	for i := range 1000 {
		for range i%7 + 1 {
			f := newFrame()
			f.h.Stream = in
			q.push(f)
			in++
		}
		for range i%6 + 1 {
			if f := q.pop(); f != nil {
				if f.h.Stream != out {
					t.Fatalf("got %d, want %d", f.h.Stream, out)
				}
				out++
			}
		}
	}
	if got, want := q.n, int(in-out); got != want {
		t.Errorf("got %d left, want %d", got, want)
	}
	for ; out < in; out++ {
		if f := q.pop(); f == nil || f.h.Stream != out {
			t.Fatalf("got %v, want frame %d", f, out)
		}
	}
	if q.pop() != nil {
		t.Error("not empty after the last")
	}
}
