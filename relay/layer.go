package relay

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"time"

	"wanderfs/relay/wire"
)

var (
	errTag   = errors.New("frame does not verify")
	errSpent = errors.New("keys used up")
)

const (
	maxFrames = 1 << 40 // in all, of a direction of a circuit. SPEC.md §10
	turnAfter = 1 << 16 // frames under one key. SPEC.md §10
)

// layer is one hop's cipher in one direction: AES-256-GCM with a counter as
// nonce, its keystream on its own for the computable tail, and the filler
// generator, all of one epoch. It turns to the next epoch by itself after
// turnAfter frames. Not safe for concurrent use.
type layer struct {
	epoch
	n     uint64 // frames so far, all epochs
	turns int    // epochs that are over
	plain emptiness
	nonce [12]byte
	in    [16]byte // scratch: arguments of interface calls must not escape
	out   [16]byte
}

// epoch is what a layer forgets when it turns.
type epoch struct {
	aead  cipher.AEAD
	block cipher.Block
	fill  cipher.Block
	next  [32]byte  // secret of the epoch that follows
	first uint64    // its first frame
	began time.Time // on this machine
}

func newLayer(secret *[32]byte) *layer { return &layer{epoch: newEpoch(secret, 0)} }

func newEpoch(secret *[32]byte, first uint64) epoch {
	k := wire.DeriveEpoch(*secret)
	defer clear(k.Key[:])
	block, aead := newGCM(&k.Key)
	fill, err := aes.NewCipher(k.Filler[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	return epoch{aead: aead, block: block, fill: fill, next: k.Next, first: first, began: time.Now()}
}

func newGCM(key *[32]byte) (cipher.Block, cipher.AEAD) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return block, aead
}

// turn goes on to the next epoch.
func (l *layer) turn() {
	l.epoch = newEpoch(&l.next, l.n)
	l.turns++
	if l.plain.later {
		l.fill = noFill{}
	}
}

// step gets ready for the next frame.
func (l *layer) step() error {
	if l.n >= maxFrames {
		return errSpent
	}
	if l.n-l.first >= turnAfter {
		l.turn()
	}
	return nil
}

// seal makes a frame at off of the body at off+TagSize, in place. The 16
// bytes behind the frame are overwritten. It uses up one counter.
func (l *layer) seal(b []byte, off int) error {
	if err := l.step(); err != nil {
		return err
	}
	binary.BigEndian.PutUint64(l.nonce[4:], l.n)
	l.n++
	body := b[off+wire.TagSize : off+wire.FrameSize]
	l.aead.Seal(body[:0], l.nonce[:], body, nil)
	copy(b[off:off+wire.TagSize], b[off+wire.FrameSize:off+wire.FrameSize+wire.TagSize])
	return nil
}

// open verifies the frame at off and leaves its body at off+TagSize. The 16
// bytes behind the frame are overwritten. It uses up one counter. A frame that
// does not verify is lost.
func (l *layer) open(b []byte, off int) error {
	if err := l.step(); err != nil {
		return err
	}
	binary.BigEndian.PutUint64(l.nonce[4:], l.n)
	copy(b[off+wire.FrameSize:off+wire.FrameSize+wire.TagSize], b[off:off+wire.TagSize])
	box := b[off+wire.TagSize : off+wire.FrameSize+wire.TagSize]
	if _, err := l.aead.Open(box[:0], l.nonce[:], box, nil); err != nil {
		return errTag
	}
	l.n++
	return nil
}

// openOrTurn is open for who does not decide when to turn: if the frame does
// not verify, and this epoch is at least so old, it may be the first of the
// next one.
func (l *layer) openOrTurn(f *frame, age time.Duration) (turned bool, err error) {
	if time.Since(l.began) < age {
		return false, l.open(f.b[:], 0)
	}
	kept := newFrame()
	defer kept.free()
	copy(kept.b[:wire.FrameSize], f.b[:])
	if err := l.open(f.b[:], 0); err != errTag {
		return false, err
	}
	copy(f.b[:], kept.b[:wire.FrameSize])
	l.turn()
	return true, l.open(f.b[:], 0)
}

// filler writes the filler of frame n to dst, 16 bytes.
func (l *layer) filler(dst []byte, n uint64) {
	clear(l.in[:])
	binary.BigEndian.PutUint64(l.in[8:], n)
	l.fill.Encrypt(l.out[:], l.in[:])
	copy(dst[:16], l.out[:])
}

// emptiness tells where filler is left out, in tests.
type emptiness struct{ first, later bool } // the first epoch; those after it

// empty leaves filler out.
func (l *layer) empty(e emptiness) {
	l.plain = e
	if e.first {
		l.fill = noFill{}
	}
}

// noFill is a filler generator that gives zeros.
type noFill struct{}

func (noFill) BlockSize() int          { return 16 }
func (noFill) Encrypt(dst, src []byte) { clear(dst[:16]) }
func (noFill) Decrypt(dst, src []byte) { clear(dst[:16]) }

// stream xors the keystream of frame n from body offset o on into dst. Both o
// and the length are multiples of 16.
func (l *layer) stream(dst []byte, n uint64, o int) {
	clear(l.in[:4])
	binary.BigEndian.PutUint64(l.in[4:12], n)
	for i := 0; i < len(dst); i += 16 {
		binary.BigEndian.PutUint32(l.in[12:], uint32(2+(o+i)/16))
		l.block.Encrypt(l.out[:], l.in[:])
		d := dst[i : i+16]
		binary.LittleEndian.PutUint64(d, binary.LittleEndian.Uint64(d)^binary.LittleEndian.Uint64(l.out[:]))
		binary.LittleEndian.PutUint64(d[8:], binary.LittleEndian.Uint64(d[8:])^binary.LittleEndian.Uint64(l.out[8:]))
	}
}

// erase drops the ciphers and with them the keys.
func (l *layer) erase() { *l = layer{n: maxFrames} }
