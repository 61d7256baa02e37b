package fetch

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"wanderfs/cache/chunk"
)

// Sizes and limits of the protocol. PROTOCOL.md
const (
	Version     = 1
	RequestSize = 52  // bytes
	AnswerSize  = 16  // bytes of an answer's header
	MaxFirst    = 468 // bytes of requests that may ride in a handshake

	multihashSize = 2 + sha256.Size
)

// ErrProtocol says that the other side broke the protocol. The connection is
// of no more use.
var ErrProtocol = errors.New("other side breaks the fetch protocol")

type kind byte

const (
	kindGet    kind = 1
	kindCancel kind = 2
)

type status byte

const (
	statusData      status = 0
	statusNotHeld   status = 1
	statusTooMuch   status = 2
	statusCancelled status = 3
	statusLeaving   status = 4 // answers nothing
)

// request is one request as bytes say it. PROTOCOL.md, Request
type request struct {
	Kind   kind
	Tag    uint32
	Offset uint32 // bytes
	Length uint32 // bytes
	Ref    chunk.Ref
}

// answer is the header of one answer. PROTOCOL.md, Answer
type answer struct {
	Status status
	Tag    uint32
	Length uint32 // bytes of data that follow
	Total  uint32 // bytes of the whole block
}

// appendRequest appends the RequestSize bytes of q, whose Ref has a sha2-256.
func appendRequest(b []byte, q request) []byte {
	b = append(b, Version, byte(q.Kind), byte(q.Ref.CID().Type()), 0)
	b = binary.BigEndian.AppendUint32(b, q.Tag)
	b = binary.BigEndian.AppendUint32(b, q.Offset)
	b = binary.BigEndian.AppendUint32(b, q.Length)
	b = append(b, q.Ref.Multihash()...)
	return append(b, 0, 0)
}

// parseRequest reads exactly RequestSize bytes and keeps none of them.
func parseRequest(b []byte) (request, error) {
	if len(b) != RequestSize || b[0] != Version || b[3] != 0 || b[50] != 0 || b[51] != 0 {
		return request{}, ErrProtocol
	}
	q := request{
		Kind:   kind(b[1]),
		Tag:    binary.BigEndian.Uint32(b[4:]),
		Offset: binary.BigEndian.Uint32(b[8:]),
		Length: binary.BigEndian.Uint32(b[12:]),
	}
	codec := uint64(b[2])
	switch {
	case q.Kind != kindGet && q.Kind != kindCancel,
		codec != cid.Raw && codec != cid.DagProtobuf,
		q.Offset > chunk.MaxBlock, q.Length == 0, q.Length > chunk.MaxBlock,
		b[16] != multihash.SHA2_256, b[17] != sha256.Size:
		return request{}, ErrProtocol
	}
	mh := append(multihash.Multihash(nil), b[16:16+multihashSize]...)
	r, err := chunk.FromCID(cid.NewCidV1(codec, mh))
	if err != nil {
		return request{}, ErrProtocol
	}
	q.Ref = r
	return q, nil
}

// appendAnswer appends the AnswerSize bytes of a.
func appendAnswer(b []byte, a answer) []byte {
	b = append(b, Version, byte(a.Status), 0, 0)
	b = binary.BigEndian.AppendUint32(b, a.Tag)
	b = binary.BigEndian.AppendUint32(b, a.Length)
	return binary.BigEndian.AppendUint32(b, a.Total)
}

// parseAnswer reads exactly AnswerSize bytes.
func parseAnswer(b []byte) (answer, error) {
	if len(b) != AnswerSize || b[0] != Version || b[2] != 0 || b[3] != 0 {
		return answer{}, ErrProtocol
	}
	a := answer{
		Status: status(b[1]),
		Tag:    binary.BigEndian.Uint32(b[4:]),
		Length: binary.BigEndian.Uint32(b[8:]),
		Total:  binary.BigEndian.Uint32(b[12:]),
	}
	if a.Status > statusLeaving || a.Total > chunk.MaxBlock || a.Length > a.Total ||
		a.Status != statusData && a.Total != 0 || a.Status == statusLeaving && a.Tag != 0 {
		return answer{}, ErrProtocol
	}
	return a, nil
}

// clip returns how many bytes of a block of total bytes a request gives.
func (q request) clip(total int) (off, n int) {
	off = min(int(q.Offset), total)
	return off, min(int(q.Length), total-off)
}
