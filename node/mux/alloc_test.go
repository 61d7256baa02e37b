//go:build !race

package mux

import (
	"testing"

	"wanderfs/relay/wire"
)

// TestAllocates: a frame costs no allocation. Under the race detector pools drop
// buffers, so it is not part of such runs.
func TestAllocates(t *testing.T) {
	a, b := pair(t, Multiplexer{}, Multiplexer{})
	x, y := streamsOf(t, a, b)
	s, r := x.(*Stream), y.(*Stream)
	r.Open()
	f := make([]byte, 16+wire.FrameSize)
	got := testing.AllocsPerRun(2000, func() {
		if err := s.WriteFrame(f); err != nil {
			t.Fatal(err)
		}
		b, err := r.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		b.Free()
	})
	if got >= 1 {
		t.Errorf("%v allocations a frame, want 0", got)
	}
}
