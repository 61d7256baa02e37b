package wire

import (
	"crypto/rand"
	"fmt"
)

// A set-up packet builds a whole path in one round trip. It is one frame, of
// the same form at every hop:
//
//	0          1             17        1137                      2590       16 368
//	| version | stamp (16) | enc (1120) | sealed block + tag (1453) | rest |
//
// The block, sealed with the rest as associated data:
//
//	0      1                 221                1437
//	| role | next hop (220) | client's key (1216) |
//
// A relay xors the rest, and as many zeros behind it as the head is long, with
// a keystream: this is the next hop's packet. The builder has foreseen what
// the zeros become (filler, as in Sphinx). SPEC.md §6
const (
	stampSize = 16
	blockSize = 1 + DialSize + PublicKeySize
	setupHead = stampSize + EncSize + blockSize + TagSize // of one hop
	setupRest = FrameSize - 1 - setupHead

	offEnc  = 1 + stampSize
	offBox  = offEnc + EncSize
	offRest = 1 + setupHead
)

// A reply comes back in one frame, too. Each relay puts its answer first, lets
// as many bytes fall off the end, and xors all of it with a keystream:
//
//	0          1                     1138
//	| version | enc2 (1120) + status (1) + tag (16) | what the next hop sent |
const answerSize = EncSize + 1 + TagSize

// role of a relay in a set-up packet.
const (
	roleLast = 0
	roleOn   = 1
)

// Kinds of frames that are no layers are told by their place: SETUP is the
// first frame forward, TAKEN and REPLY the first two backward.

func circuitInfo(network string, relay NodeID) []byte {
	return append([]byte("wanderfs/"+network+"/circuit/1\x00"), relay[:]...)
}

// SetupError says that a set-up failed at a hop, counted from 0. Status is
// StatusOK if that hop's own answer was wrong, else what the hop before said.
type SetupError struct {
	Index  int
	Status Status
}

func (e *SetupError) Error() string {
	return fmt.Sprintf("set-up: hop %d: status %d", e.Index, e.Status)
}

// HopKeys are the keys of one hop of a path.
type HopKeys struct {
	CircuitKeys
	Hash [32]byte // transcript hash; the far end's names the circuit
}

// Building is a set-up packet that is under way, at its builder.
type Building struct {
	hops []*initiator
	back [][32]byte // keys that blind the answers
}

// NewSetup makes the packet for a path through the hops, nearest first, one to
// MaxHops of them, which must have their onion keys. It verifies nothing.
func NewSetup(network string, hops []Descriptor) ([]byte, *Building, error) {
	n := len(hops)
	if n == 0 || n > MaxHops {
		return nil, nil, fmt.Errorf("set-up: %d hops", n)
	}
	b := &Building{}
	var keys [MaxHops][32]byte // that blind the rest
	for i, d := range hops {
		if d.Onion == nil {
			return nil, nil, &SetupError{Index: i}
		}
		h, err := initiate(circuitInfo(network, d.Node), d.Onion)
		if err != nil {
			return nil, nil, &SetupError{Index: i}
		}
		if keys[i], err = export(h.send, "wanderfs/blind/1"); err != nil {
			return nil, nil, err
		}
		back, err := export(h.send, "wanderfs/answer/blind/1")
		if err != nil {
			return nil, nil, err
		}
		b.hops, b.back = append(b.hops, h), append(b.back, back)
	}
	p := make([]byte, FrameSize+setupHead) // room for what a relay would append
	rand.Read(p[offRest:FrameSize])
	fill := filler(keys[:n-1])
	copy(p[FrameSize-len(fill):], fill)
	for i := n - 1; i >= 0; i-- {
		if i < n-1 {
			copy(p[offRest:FrameSize], p[1:]) // drops what relay i will make itself
			blind(&keys[i], p[offRest:FrameSize])
		}
		if err := b.hops[i].block(p, hops[i+1:]); err != nil {
			return nil, nil, err
		}
	}
	clear(keys[:])
	return p[:FrameSize], b, nil
}

// filler gives the last bytes of the rest as the last hop will get it: what
// all relays before it have appended, blinded by those behind them.
func filler(keys [][32]byte) []byte {
	f := make([]byte, setupRest+setupHead) // as one relay sees it
	n := 0
	for i := range keys {
		// What is there so far ends with the frame; the relay appends zeros.
		b := make([]byte, len(f))
		copy(b[setupRest-n:], f[len(f)-n:])
		blind(&keys[i], b)
		n += setupHead
		copy(f[len(f)-n:], b[len(b)-n:])
	}
	return f[len(f)-n:]
}

// block writes the head of the packet for the hop of h, whose rest is there.
func (h *initiator) block(p []byte, next []Descriptor) error {
	p[0] = Version
	rand.Read(p[1:offEnc])
	copy(p[offEnc:offBox], h.enc[:])
	plain := make([]byte, 1, blockSize)
	if len(next) > 0 {
		plain[0] = roleOn
		var err error
		if plain, err = next[0].AppendDial(plain); err != nil {
			return err
		}
	} else {
		plain = plain[:1+DialSize]
	}
	plain = append(plain, h.own.pub[:]...)
	box, err := h.send.Seal(setupAAD(p), plain)
	if err != nil {
		return err
	}
	copy(p[offBox:offRest], box)
	return nil
}

// setupAAD is all of a packet but enc, which HPKE binds, and the box.
func setupAAD(p []byte) []byte {
	b := make([]byte, 0, 1+stampSize+setupRest)
	b = append(b, p[:offEnc]...)
	return append(b, p[offRest:FrameSize]...)
}

// Finish reads the reply, and gives the keys of all hops. The error is a
// *SetupError unless the reply is no such frame at all.
func (b *Building) Finish(reply []byte) ([]HopKeys, error) {
	if len(reply) != FrameSize || reply[0] != Version {
		return nil, ErrMalformed
	}
	body := append([]byte(nil), reply[1:]...)
	var out []HopKeys
	for i, h := range b.hops {
		blind(&b.back[i], body)
		s, err := h.finish(body[:EncSize])
		if err != nil {
			return nil, &SetupError{Index: i}
		}
		k, tag := circuitKeys(&s)
		status, err := confirm(&tag).Open(nil, make([]byte, 12), body[EncSize:answerSize], nil)
		if err != nil {
			return nil, &SetupError{Index: i}
		}
		out = append(out, k)
		if st := Status(status[0]); st != StatusOK {
			if i == len(b.hops)-1 || st > StatusFailed {
				return nil, &SetupError{Index: i}
			}
			return nil, &SetupError{i + 1, st}
		}
		body = body[answerSize:]
	}
	// What the last hop filled up with; a hidden channel if it were anything.
	if !zero(body) {
		return nil, &SetupError{Index: len(b.hops) - 1}
	}
	return out, nil
}

func circuitKeys(s *secret) (HopKeys, [32]byte) {
	k := s.derive("wanderfs/circuit/keys/1", 3)
	return HopKeys{CircuitKeys{Forward: k[0], Backward: k[1]}, s.hash}, k[2]
}

// Setup is a set-up packet that a relay has opened.
type Setup struct {
	Last   bool       // this relay is the far end
	Next   Descriptor // where to go on to, unless Last; in its short form, not verified
	Packet []byte     // for Next
	Keys   HopKeys
	answer [EncSize]byte
	tag    [32]byte // key for the answer's tag
	back   [32]byte // blinds the answer
}

// SetupID names a packet for a replay cache: each has another enc.
func SetupID(packet []byte) ([]byte, error) {
	if len(packet) != FrameSize || packet[0] != Version {
		return nil, ErrMalformed
	}
	return packet[offEnc:offBox], nil
}

// OpenSetup opens a packet with the relay's onion key, and chooses the keys. A
// packet is to be opened once: who opens it again gives its sender two answers
// under one keystream.
func OpenSetup(network string, self NodeID, key *PrivateKey, packet []byte) (*Setup, error) {
	enc, err := SetupID(packet)
	if err != nil {
		return nil, err
	}
	r, err := receive(circuitInfo(network, self), key, enc)
	if err != nil {
		return nil, err
	}
	plain, err := r.recv.Open(setupAAD(packet), packet[offBox:offRest])
	if err != nil || len(plain) != blockSize || plain[0] > roleOn {
		return nil, ErrMalformed
	}
	dial, share := plain[1:1+DialSize], plain[1+DialSize:]
	s := &Setup{Last: plain[0] == roleLast}
	if s.Last {
		if !zero(dial) {
			return nil, ErrMalformed
		}
	} else if s.Next, err = ParseDial(dial); err != nil {
		return nil, err
	}
	if !s.Last {
		key, err := export(r.recv, "wanderfs/blind/1")
		if err != nil {
			return nil, err
		}
		s.Packet = make([]byte, FrameSize+setupHead)
		copy(s.Packet[1:], packet[offRest:])
		blind(&key, s.Packet[1:FrameSize])
		s.Packet = s.Packet[:FrameSize]
		s.Packet[0] = Version
	}
	if s.back, err = export(r.recv, "wanderfs/answer/blind/1"); err != nil {
		return nil, err
	}
	var sec secret
	if s.answer, sec, err = r.answer(share); err != nil {
		return nil, err
	}
	s.Keys, s.tag = circuitKeys(&sec)
	return s, nil
}

// Reply makes the frame that goes back. next is the frame that came from the
// next hop, or nil: at the last hop, and where the status is not StatusOK.
// Reply is called once.
func (s *Setup) Reply(status Status, next []byte) ([]byte, error) {
	if next != nil && (len(next) != FrameSize || next[0] != Version) {
		return nil, ErrMalformed
	}
	b := make([]byte, 1, FrameSize)
	b[0] = Version
	b = append(b, s.answer[:]...)
	b = confirm(&s.tag).Seal(b, make([]byte, 12), []byte{byte(status)}, nil)
	n := len(b)
	b = b[:FrameSize]
	if next != nil {
		copy(b[n:], next[1:])
	}
	blind(&s.back, b[1:])
	s.tag, s.back = [32]byte{}, [32]byte{}
	return b, nil
}

// AppendTaken appends the frame that says that a set-up packet was taken: the
// version and random bytes. SPEC.md §6
func AppendTaken(b []byte) []byte {
	b = append(b, Version)
	n := len(b)
	b = append(b, make([]byte, FrameSize-1)...)
	rand.Read(b[n:])
	return b
}

// ParseTaken checks what AppendTaken made.
func ParseTaken(b []byte) error {
	if len(b) != FrameSize || b[0] != Version {
		return ErrMalformed
	}
	return nil
}
