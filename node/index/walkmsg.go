package index

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"wanderfs/relay/wire"
)

// Limits of a walking query. Decoders hold others to them.
const (
	maxTTL     = 12               // super nodes that it may still be passed to
	maxBudget  = 10 * time.Second // that it may take
	maxAsked   = 48               // super nodes that it remembers
	askedTag   = 4                // bytes by which it remembers each
	walkIDSize = 16
	walkHead   = 2 + 1 + 2 + walkIDSize + 1 + maxAsked*askedTag
	walkLength = walkHead + getLength
	walkedHead = 4
)

// walkID names one walking query among the super nodes that it comes to. It is
// random and names nothing else.
type walkID [walkIDSize]byte

// tag is how the query remembers that it was at a super node, or that it could
// not be reached. Only who knows the node and sees the query can tell.
func (id walkID) tag(n wire.NodeID) [askedTag]byte {
	h := sha256.Sum256(append(append([]byte("wanderfs/index/asked/1\x00"), id[:]...), n[:]...))
	return [askedTag]byte(h[:])
}

// walkRequest is a get that may be passed on through the region of its key. It
// holds no address and no name of who asks, nor of the far end that set it off.
//
//	version 1, op 1, ttl 1, budget 2 (ms), id 16, count 1,
//	asked 4 x 48 (oldest first, unused ones zero), get request
type walkRequest struct {
	TTL    int           // super nodes that the receiver may have it passed to
	Budget time.Duration // for the answer; whole milliseconds
	ID     walkID
	Asked  [][askedTag]byte // at most maxAsked
	Get    getRequest
}

func (w walkRequest) encode() []byte {
	b := make([]byte, 0, walkLength)
	b = append(b, RecordVersion, opWalk, byte(w.TTL))
	b = binary.BigEndian.AppendUint16(b, uint16(w.Budget/time.Millisecond))
	b = append(b, w.ID[:]...)
	b = append(b, byte(len(w.Asked)))
	for _, t := range w.Asked {
		b = append(b, t[:]...)
	}
	return append(b[:walkHead], w.Get.encode()...)
}

func parseWalk(b []byte) (walkRequest, error) {
	var w walkRequest
	if len(b) != walkLength || b[0] != RecordVersion || b[1] != opWalk || b[2] > maxTTL {
		return w, wire.ErrMalformed
	}
	g, err := parseGet(b[walkHead:])
	if err != nil {
		return w, err
	}
	w.TTL, w.Budget = int(b[2]), time.Duration(binary.BigEndian.Uint16(b[3:]))*time.Millisecond
	w.ID, w.Get = walkID(b[5:]), g
	n := int(b[5+walkIDSize])
	tags := b[6+walkIDSize : walkHead]
	if n > maxAsked || w.Budget > maxBudget {
		return walkRequest{}, wire.ErrMalformed
	}
	for i := range n {
		w.Asked = append(w.Asked, [askedTag]byte(tags[askedTag*i:]))
	}
	for _, x := range tags[askedTag*n:] {
		if x != 0 {
			return walkRequest{}, wire.ErrMalformed
		}
	}
	return w, nil
}

// walkStatus is how a walk ended.
type walkStatus byte

const (
	walkNothing walkStatus = 0 // nobody asked has it; so many of the TTL are left
	walkFound   walkStatus = 1
	walkSeen    walkStatus = 2 // was here before, or has no room here: try another
)

// walkAnswer goes back the way the request came, and holds nothing of the way.
//
//	version 1, op 1, status 1, left 1; when found: the answer of a get
type walkAnswer struct {
	Status walkStatus
	Left   int       // of the TTL; 0 unless nothing was found
	Got    getAnswer // at least one record if found
}

func (a walkAnswer) encode() []byte {
	b := []byte{RecordVersion, opWalk | opAnswer, byte(a.Status), byte(a.Left)}
	if a.Status == walkFound {
		b = append(b, a.Got.encode()...)
	}
	return b
}

func parseWalked(b []byte) (walkAnswer, error) {
	if len(b) < walkedHead || b[0] != RecordVersion || b[1] != opWalk|opAnswer || b[2] > byte(walkSeen) || b[3] > maxTTL {
		return walkAnswer{}, wire.ErrMalformed
	}
	a := walkAnswer{Status: walkStatus(b[2]), Left: int(b[3])}
	if a.Status != walkNothing && a.Left != 0 {
		return walkAnswer{}, wire.ErrMalformed
	}
	if a.Status != walkFound {
		if len(b) != walkedHead {
			return walkAnswer{}, wire.ErrMalformed
		}
		return a, nil
	}
	var err error
	if a.Got, err = parseGot(b[walkedHead:]); err != nil || len(a.Got.Records) == 0 {
		return walkAnswer{}, wire.ErrMalformed
	}
	return a, nil
}
