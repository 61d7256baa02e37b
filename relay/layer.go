package relay

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"

	"wanderfs/relay/wire"
)

var (
	errTag   = errors.New("frame does not verify")
	errSpent = errors.New("keys used up")
)

// maxFrames bounds how often a key is used. SPEC.md §10
const maxFrames = 1 << 32

// layer is one hop's cipher in one direction: AES-256-GCM with a counter as
// nonce, its keystream on its own for the computable tail, and the filler
// generator. Not safe for concurrent use.
type layer struct {
	aead  cipher.AEAD
	block cipher.Block
	fill  cipher.Block // forward only
	n     uint64       // frames so far
	nonce [12]byte
	in    [16]byte // scratch: arguments of interface calls must not escape
	out   [16]byte
}

func newLayer(key, filler *[32]byte) *layer {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	l := &layer{aead: aead, block: block}
	if filler != nil {
		if l.fill, err = aes.NewCipher(filler[:]); err != nil {
			panic(err)
		}
	}
	return l
}

// seal makes a frame at off of the body at off+TagSize, in place. The 16
// bytes behind the frame are overwritten. It uses up one counter.
func (l *layer) seal(b []byte, off int) error {
	if l.n >= maxFrames {
		return errSpent
	}
	binary.BigEndian.PutUint64(l.nonce[4:], l.n)
	l.n++
	body := b[off+wire.TagSize : off+wire.FrameSize]
	l.aead.Seal(body[:0], l.nonce[:], body, nil)
	copy(b[off:off+wire.TagSize], b[off+wire.FrameSize:off+wire.FrameSize+wire.TagSize])
	return nil
}

// open verifies the frame at off and leaves its body at off+TagSize. The 16
// bytes behind the frame are overwritten. It uses up one counter.
func (l *layer) open(b []byte, off int) error {
	if l.n >= maxFrames {
		return errSpent
	}
	binary.BigEndian.PutUint64(l.nonce[4:], l.n)
	l.n++
	copy(b[off+wire.FrameSize:off+wire.FrameSize+wire.TagSize], b[off:off+wire.TagSize])
	box := b[off+wire.TagSize : off+wire.FrameSize+wire.TagSize]
	if _, err := l.aead.Open(box[:0], l.nonce[:], box, nil); err != nil {
		return errTag
	}
	return nil
}

// filler writes the filler of frame n to dst, 16 bytes.
func (l *layer) filler(dst []byte, n uint64) {
	clear(l.in[:])
	binary.BigEndian.PutUint64(l.in[8:], n)
	l.fill.Encrypt(l.out[:], l.in[:])
	copy(dst[:16], l.out[:])
}

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
func (l *layer) erase() {
	l.n = maxFrames
	clear(l.in[:])
	clear(l.out[:])
}
