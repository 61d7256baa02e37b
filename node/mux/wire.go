package mux

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
	ID       = "/yamux/1.0.0"
	headSize = 12

	typeData   = 0
	typeWindow = 1
	typePing   = 2
	typeGoAway = 3

	flagSYN = 1
	flagACK = 2
	flagFIN = 4
	flagRST = 8

	codeProtocol = 1 // GoAway: the other side broke the protocol
)

var errProtocol = errors.New("multiplexer: protocol broken")

// head is a message's header.
type head struct {
	typ    byte
	flags  uint16
	id     uint32 // of the stream; 0: none
	length uint32
}

// parseHead reads the first headSize bytes of b. Flags that nobody knows
// are left alone, as by others who speak yamux.
func parseHead(b []byte) (head, error) {
	if b[0] != 0 || b[1] > typeGoAway {
		return head{}, errProtocol
	}
	return head{
		typ: b[1], flags: binary.BigEndian.Uint16(b[2:]),
		id: binary.BigEndian.Uint32(b[4:]), length: binary.BigEndian.Uint32(b[8:]),
	}, nil
}

// append adds the header's bytes to b.
func (h head) append(b []byte) []byte {
	b = append(b, 0, h.typ)
	b = binary.BigEndian.AppendUint16(b, h.flags)
	b = binary.BigEndian.AppendUint32(b, h.id)
	return binary.BigEndian.AppendUint32(b, h.length)
}
