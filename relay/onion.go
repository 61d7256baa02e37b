package relay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"time"

	"wanderfs/relay/wire"
)

// outward is the builder's sending side: the forward layers of all hops,
// nearest first. Layout of a frame through n hops in its buffer:
//
//	off 0     16      32       ...   16n                     16(n-1)+FrameSize
//	    | tag | tag 2 | tag 3 | ... | cell | tail (made for MaxHops) |
//
// Each layer's frame begins 16 bytes before the next one's, and the last 16
// bytes of that are what the relay will append itself. SPEC.md §10
type outward struct {
	hops []*layer
	pad  cipher.Block // what the far end sees of the tail beyond the hops
	n    uint64
	tail [wire.TailSize]byte
	in   [16]byte
}

func newOutward() *outward {
	var k [32]byte
	rand.Read(k[:])
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err)
	}
	clear(k[:])
	return &outward{pad: block}
}

// off is where the cell lies in a frame that seal is given.
func (o *outward) off() int { return wire.TagSize * len(o.hops) }

// seal makes a frame at offset 0 of the cell at o.off().
func (o *outward) seal(f *frame) error {
	n := len(o.hops)
	if err := o.step(); err != nil {
		return err
	}
	// The tails: what each relay's filler will have become at the next.
	t := o.tail[:0]
	for _, l := range o.hops[:n-1] {
		l.stream(t, l.n, wire.BodySize-len(t))
		t = t[:len(t)+wire.TagSize]
		l.filler(t[len(t)-wire.TagSize:], l.n)
	}
	end := wire.TagSize*(n-1) + wire.FrameSize
	tail := f.b[end-wire.TailSize : end]
	spare := tail[:wire.TailSize-len(t)]
	for i := 0; i < len(spare); i += 16 {
		binary.BigEndian.PutUint64(o.in[:8], o.n)
		o.in[15] = byte(i)
		o.pad.Encrypt(spare[i:i+16], o.in[:])
	}
	o.n++
	copy(tail[len(spare):], t)
	last := o.hops[n-1]
	last.stream(tail[len(spare):], last.n, wire.BodySize-len(t))
	for i := n - 1; i >= 0; i-- {
		if err := o.hops[i].seal(f.b[:], wire.TagSize*i); err != nil {
			return err
		}
	}
	return nil
}

// step gets all hops ready for the next frame.
func (o *outward) step() error {
	for _, l := range o.hops {
		if err := l.step(); err != nil {
			return err
		}
	}
	return nil
}

// due tells whether the keys are so old that they should be replaced. They
// are not if the next frame has new ones in any case: relays would take a turn
// by age for that.
func (o *outward) due(age time.Duration) bool {
	return o.step() == nil && time.Since(o.hops[0].began) >= age
}

// turn gives all hops new keys, for the next frame on.
func (o *outward) turn() {
	for _, l := range o.hops {
		l.turn()
	}
}

// inward is the builder's receiving side: the backward layers of all hops.
type inward struct {
	hops []*layer
	// A relay turns its backward layer with the next frame after it has seen
	// its forward one turn. Relays nearer to the builder see that earlier, and
	// pass a backward frame later, so that a frame has the new epoch at the
	// first few hops and the old one behind: how many is found by trying.
	waits int // hops that have not turned yet, the last ones
}

// turn says that all hops are about to turn.
func (o *inward) turn() { o.waits = len(o.hops) }

// open takes all layers off the frame at offset 0 and gives where the cell
// begins. The first layer that does not verify ends it.
func (o *inward) open(f *frame) (off int, err error) {
	for _, l := range o.hops {
		if err := l.step(); err != nil {
			return 0, err
		}
	}
	if o.waits == 0 {
		return o.peel(f)
	}
	kept := newFrame()
	defer kept.free()
	copy(kept.b[:wire.FrameSize], f.b[:])
	n := len(o.hops)
	old := make([]layer, n)
	for i, l := range o.hops {
		old[i] = *l
	}
	for at := n - o.waits; ; at++ { // hops below at have turned
		if off, err = o.peel(f); err == nil || at == n {
			o.waits = n - at
			return off, err
		}
		copy(f.b[:], kept.b[:wire.FrameSize])
		for i, l := range o.hops {
			done := i < n-o.waits || i > at
			*l = old[i]
			if !done {
				l.turn()
			}
		}
	}
}

// peel opens the frame with the keys of now.
func (o *inward) peel(f *frame) (off int, err error) {
	n := len(o.hops)
	for i, l := range o.hops {
		off = wire.TagSize * i
		if i > 0 {
			// What hop i-1 dropped from this frame's end: zeros, sealed by
			// every hop from here on, each one piece further from the end.
			end := f.b[off+wire.BodySize : off+wire.FrameSize]
			clear(end)
			for j := i; j < n; j++ {
				k := o.hops[j]
				k.stream(end, k.n, wire.BodySize-wire.TagSize*(j-i+1))
			}
		}
		if err := l.open(f.b[:], off); err != nil {
			return 0, err
		}
	}
	off = wire.TagSize * n
	tail := f.b[off+wire.CellSize : off+wire.BodySize]
	for _, x := range tail {
		if x != 0 {
			return 0, wire.ErrMalformed
		}
	}
	return off, nil
}
