package relay

import (
	"crypto/rand"
	"fmt"
	"testing"

	"wanderfs/relay/wire"
)

// hopKeys makes the two ends of n hops.
func hopKeys(n int) (out *outward, in *inward, fwd, bwd []*layer) {
	out, in = newOutward(), &inward{}
	for range n {
		var k wire.CircuitKeys
		rand.Read(k.Forward[:])
		rand.Read(k.Backward[:])
		out.hops = append(out.hops, newLayer(&k.Forward))
		in.hops = append(in.hops, newLayer(&k.Backward))
		fwd = append(fwd, newLayer(&k.Forward))
		bwd = append(bwd, newLayer(&k.Backward))
	}
	return out, in, fwd, bwd
}

func BenchmarkHopForward(b *testing.B) { // one relay: open, filler
	l := newLayer(new([32]byte))
	s := newLayer(new([32]byte))
	f := newFrame()
	b.SetBytes(wire.FrameSize)
	b.ReportAllocs()
	s.seal(f.b[:], 0)
	for b.Loop() {
		l.n = 0
		if err := l.open(f.b[:], 0); err != nil {
			b.Fatal(err)
		}
		l.filler(f.b[wire.FrameSize:], 0)
		b.StopTimer()
		s.n = 0
		s.seal(f.b[:], 0)
		b.StartTimer()
	}
}

func BenchmarkHopBackward(b *testing.B) { // one relay: seal
	l := newLayer(new([32]byte))
	f := newFrame()
	b.SetBytes(wire.FrameSize)
	b.ReportAllocs()
	for b.Loop() {
		l.seal(f.b[:], 0)
	}
}

func BenchmarkBuilderSeal(b *testing.B) {
	for _, n := range []int{1, 3, 4} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			out, _, _, _ := hopKeys(n)
			f := newFrame()
			b.SetBytes(wire.FrameSize)
			b.ReportAllocs()
			for b.Loop() {
				out.seal(f)
			}
		})
	}
}

func BenchmarkBuilderOpen(b *testing.B) {
	for _, n := range []int{1, 3, 4} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, in, _, bwd := hopKeys(n)
			f := newFrame()
			sealed := newFrame()
			b.SetBytes(wire.FrameSize)
			b.ReportAllocs()
			back(sealed, bwd)
			for b.Loop() {
				for i := range in.hops {
					in.hops[i].n = 0
				}
				copy(f.b, sealed.b) // it is counted too
				if _, err := in.open(f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// back seals a zero cell at the far end and carries it to the builder.
func back(f *frame, bwd []*layer) {
	n := len(bwd)
	clear(f.b[:])
	bwd[n-1].seal(f.b[:], 0)
	for i := n - 2; i >= 0; i-- {
		copy(f.b[wire.TagSize:], f.b[:wire.FrameSize])
		bwd[i].seal(f.b[:], 0)
	}
}
