package node

import (
	"encoding/binary"
	"errors"
)

// The format of yamux:
// https://github.com/hashicorp/yamux/blob/master/spec.md
//
//	offset  0        1     2      4       8
//	        version  type  flags  stream  length
//
// All numbers are big-endian. Behind a message of the type data come length
// bytes; in the others length is the credit, the ping's number or the reason.
const (
	muxID     = "/yamux/1.0.0"
	muxHeader = 12

	muxData   = 0
	muxWindow = 1
	muxPing   = 2
	muxGoAway = 3

	muxSYN = 1
	muxACK = 2
	muxFIN = 4
	muxRST = 8

	muxFirstWindow = 256 << 10 // bytes of a new stream's window, until more is given
	muxProtocol    = 1         // GoAway: the other side broke the protocol
)

var errMux = errors.New("multiplexer: protocol broken")

// muxHead is a message's header.
type muxHead struct {
	typ    byte
	flags  uint16
	id     uint32 // of the stream; 0: none
	length uint32
}

// parseMuxHead reads the first muxHeader bytes of b. Flags that nobody knows
// are left alone, as by others who speak yamux.
func parseMuxHead(b []byte) (muxHead, error) {
	if b[0] != 0 || b[1] > muxGoAway {
		return muxHead{}, errMux
	}
	return muxHead{
		typ: b[1], flags: binary.BigEndian.Uint16(b[2:]),
		id: binary.BigEndian.Uint32(b[4:]), length: binary.BigEndian.Uint32(b[8:]),
	}, nil
}

// append adds the header's bytes to b.
func (h muxHead) append(b []byte) []byte {
	b = append(b, 0, h.typ)
	b = binary.BigEndian.AppendUint16(b, h.flags)
	b = binary.BigEndian.AppendUint32(b, h.id)
	return binary.BigEndian.AppendUint32(b, h.length)
}
