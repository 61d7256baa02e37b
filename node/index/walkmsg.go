package index

import (
	"crypto/rand"
	"crypto/sha256"

	"wanderfs/relay/wire"
)

// Limits of a walking query. Decoders hold others to them.
const (
	maxAsked   = 128 // super nodes that it remembers
	askedTag   = 4   // bytes by which it remembers each
	walkIDSize = 16
	walkHead   = 2 + 1 + walkIDSize + maxAsked*askedTag
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
// holds no address and no name of who asks, nor of the far end that set it off,
// and nothing that grows or shrinks on the way.
//
//	version 1, op 1, on 1, id 16, asked 4 x 128, get request
type walkRequest struct {
	On    bool // the receiver may pass it on
	ID    walkID
	Asked [maxAsked][askedTag]byte // random where it was nowhere
	Get   getRequest
}

// newWalkRequest makes the request of a far end, which was nowhere yet.
func newWalkRequest(id walkID, g getRequest) walkRequest {
	w := walkRequest{On: true, ID: id, Get: g}
	for i := range w.Asked {
		rand.Read(w.Asked[i][:]) // never fails
	}
	return w
}

// remember gives the request with a node's tag in a place that depends on the
// tag alone: the order would tell how long the walk is.
func (w walkRequest) remember(n wire.NodeID) walkRequest {
	t := w.ID.tag(n)
	w.Asked[int(t[0])%maxAsked] = t
	return w
}

// was tells whether the query was at a node, or could not be brought there.
func (w walkRequest) was(n wire.NodeID) bool {
	t := w.ID.tag(n)
	return w.Asked[int(t[0])%maxAsked] == t
}

func (w walkRequest) encode() []byte {
	b := make([]byte, 0, walkLength)
	b = append(b, RecordVersion, opWalk, bit(w.On))
	b = append(b, w.ID[:]...)
	for _, t := range w.Asked {
		b = append(b, t[:]...)
	}
	return append(b, w.Get.encode()...)
}

func parseWalk(b []byte) (walkRequest, error) {
	var w walkRequest
	if len(b) != walkLength || b[0] != RecordVersion || b[1] != opWalk || b[2] > 1 {
		return w, wire.ErrMalformed
	}
	g, err := parseGet(b[walkHead:])
	if err != nil {
		return w, err
	}
	w.On, w.ID, w.Get = b[2] == 1, walkID(b[3:]), g
	for i := range w.Asked {
		w.Asked[i] = [askedTag]byte(b[3+walkIDSize+askedTag*i:])
	}
	return w, nil
}

// walkStatus is how a walk ended.
type walkStatus byte

const (
	walkNothing walkStatus = 0 // nobody asked has it
	walkFound   walkStatus = 1
	walkSeen    walkStatus = 2 // was here before, or has no room here: try another
)

// walkAnswer goes back the way the request came, and holds nothing of the way.
//
//	version 1, op 1, status 1, open 1; when found: the answer of a get
type walkAnswer struct {
	Status walkStatus
	Open   bool      // nothing was found, but the walk may go on elsewhere
	Got    getAnswer // at least one record if found
}

func (a walkAnswer) encode() []byte {
	b := []byte{RecordVersion, opWalk | opAnswer, byte(a.Status), bit(a.Open)}
	if a.Status == walkFound {
		b = append(b, a.Got.encode()...)
	}
	return b
}

func parseWalked(b []byte) (walkAnswer, error) {
	if len(b) < walkedHead || b[0] != RecordVersion || b[1] != opWalk|opAnswer || b[2] > byte(walkSeen) || b[3] > 1 {
		return walkAnswer{}, wire.ErrMalformed
	}
	a := walkAnswer{Status: walkStatus(b[2]), Open: b[3] == 1}
	if a.Status != walkNothing && a.Open {
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
