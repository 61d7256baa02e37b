package wire

import (
	"encoding/binary"
)

// Status is the outcome of EXTEND and ASK. SPEC.md §7
type Status byte

// Outcomes. They say as much as the asker needs to choose another way.
const (
	StatusOK      Status = 0
	StatusRefused Status = 1 // not wanted: bad record, limits
	StatusFailed  Status = 2 // tried, and it did not work
)

// MaxAsk is the longest request and the longest answer in bytes. SPEC.md §7.2
const MaxAsk = 512 << 10

// Extend asks the last relay to go on to another. SPEC.md §7.1
type Extend struct {
	To  Descriptor
	Msg [HandshakeSize]byte
}

// AppendBinary appends e.
func (e Extend) AppendBinary(b []byte) ([]byte, error) {
	b, err := e.To.AppendBinary(b)
	if err != nil {
		return b, err
	}
	return append(b, e.Msg[:]...), nil
}

// ParseExtend reads exactly one Extend. It does not verify the descriptor.
func ParseExtend(b []byte) (Extend, error) {
	if len(b) != DescriptorSize+HandshakeSize {
		return Extend{}, ErrMalformed
	}
	d, err := ParseDescriptor(b[:DescriptorSize])
	if err != nil {
		return Extend{}, err
	}
	return Extend{To: d, Msg: [HandshakeSize]byte(b[DescriptorSize:])}, nil
}

// Extended answers Extend. Msg is zero unless Status is StatusOK.
type Extended struct {
	Status Status
	Msg    [HandshakeSize]byte
}

// AppendBinary appends e.
func (e Extended) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, byte(e.Status))
	return append(b, e.Msg[:]...), nil
}

// ParseExtended reads exactly one Extended.
func ParseExtended(b []byte) (Extended, error) {
	if len(b) != 1+HandshakeSize || b[0] > byte(StatusFailed) {
		return Extended{}, ErrMalformed
	}
	e := Extended{Status: Status(b[0]), Msg: [HandshakeSize]byte(b[1:])}
	if e.Status != StatusOK && !zero(e.Msg[:]) {
		return Extended{}, ErrMalformed
	}
	return e, nil
}

// AppendAsk appends the head of a request: its length in bytes.
func AppendAsk(b []byte, total int) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(total))
}

// ParseAsk reads the head of a request, and gives the bytes after it.
func ParseAsk(b []byte) (total int, rest []byte, err error) {
	if len(b) < 4 {
		return 0, nil, ErrMalformed
	}
	n := binary.BigEndian.Uint32(b)
	if n > MaxAsk || len(b)-4 > int(n) {
		return 0, nil, ErrMalformed
	}
	return int(n), b[4:], nil
}

// AppendAnswer appends the head of an answer.
func AppendAnswer(b []byte, s Status, total int) []byte {
	return binary.BigEndian.AppendUint32(append(b, byte(s)), uint32(total))
}

// ParseAnswer reads the head of an answer, and gives the bytes after it. Only
// StatusOK has any.
func ParseAnswer(b []byte) (s Status, total int, rest []byte, err error) {
	if len(b) < 5 || b[0] > byte(StatusFailed) {
		return 0, 0, nil, ErrMalformed
	}
	s = Status(b[0])
	n := binary.BigEndian.Uint32(b[1:])
	if n > MaxAsk || len(b)-5 > int(n) || (s != StatusOK && n != 0) {
		return 0, 0, nil, ErrMalformed
	}
	return s, int(n), b[5:], nil
}

// ListenSize is the length of a Listen in bytes.
const ListenSize = 32 + 32 + 32 + 1 + 64

// Listen asks the last relay to be a session's gateway. SPEC.md §8.1
type Listen struct {
	Keys     SessionKeys
	Verifier [32]byte // see Verifier
	Effort   byte     // bits, at most MaxListenEffort, of the puzzle for readers under load; 0: none
	Sig      [64]byte // by the session, over listenMessage
}

// AppendBinary appends l.
func (l Listen) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, l.Keys.Sign[:]...)
	b = append(b, l.Keys.Agree[:]...)
	b = append(b, l.Verifier[:]...)
	b = append(b, l.Effort)
	return append(b, l.Sig[:]...), nil
}

// ParseListen reads exactly one Listen. It does not verify the signature.
func ParseListen(b []byte) (Listen, error) {
	if len(b) != ListenSize || b[96] > MaxListenEffort {
		return Listen{}, ErrMalformed
	}
	return Listen{
		Keys:     SessionKeys{Sign: [32]byte(b[:32]), Agree: [32]byte(b[32:64])},
		Verifier: [32]byte(b[64:96]),
		Effort:   b[96],
		Sig:      [64]byte(b[97:]),
	}, nil
}

// Join opens a stream to a session. Msg is the first end-to-end handshake
// message; its payload is the reader's first bytes. SPEC.md §8.2
type Join struct {
	Number SessionNumber
	MAC    [32]byte // see JoinMAC
	Msg    []byte
}

// MaxFirst is the most bytes that ride in the first end-to-end message.
const MaxFirst = MaxData - 32 - 32 - HandshakeSize

// AppendBinary appends j.
func (j Join) AppendBinary(b []byte) ([]byte, error) {
	if len(j.Msg) < HandshakeSize || len(j.Msg) > HandshakeSize+MaxFirst {
		return b, ErrMalformed
	}
	b = append(b, j.Number[:]...)
	b = append(b, j.MAC[:]...)
	return append(b, j.Msg...), nil
}

// ParseJoin reads one Join. Its Msg is a part of b.
func ParseJoin(b []byte) (Join, error) {
	if len(b) < 64+HandshakeSize || len(b) > MaxData {
		return Join{}, ErrMalformed
	}
	return Join{Number: SessionNumber(b[:32]), MAC: [32]byte(b[32:64]), Msg: b[64:]}, nil
}

// ParseOpen checks the data of OPEN, a first end-to-end handshake message.
func ParseOpen(b []byte) ([]byte, error) {
	if len(b) < HandshakeSize || len(b) > HandshakeSize+MaxFirst {
		return nil, ErrMalformed
	}
	return b, nil
}

// ParseOpened reads the data of OPENED and JOINED, the second end-to-end
// handshake message.
func ParseOpened(b []byte) (msg [HandshakeSize]byte, err error) {
	if len(b) != HandshakeSize {
		return msg, ErrMalformed
	}
	return [HandshakeSize]byte(b), nil
}

// MaxWindow is the most credit, in cells, that a stream may have. SPEC.md §9
const MaxWindow = 1024

// InitialWindow is the credit, in cells, that each direction of a stream
// begins with: 4 MiB in whole frames. SPEC.md §9
const InitialWindow = 256

// AppendWindow appends the data of WINDOW: credit in cells, 1 to MaxWindow.
func AppendWindow(b []byte, cells int) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(cells))
}

// ParseWindow reads the data of WINDOW.
func ParseWindow(b []byte) (cells int, err error) {
	if len(b) != 4 {
		return 0, ErrMalformed
	}
	n := binary.BigEndian.Uint32(b)
	if n == 0 || n > MaxWindow {
		return 0, ErrMalformed
	}
	return int(n), nil
}

// Reason is why a stream was reset.
type Reason byte

// Reasons. ReasonRefused is the same for an unknown session, a wrong secret
// and a limit.
const (
	ReasonCancelled Reason = 0
	ReasonRefused   Reason = 1
	ReasonLost      Reason = 2 // the other half of the way is gone
)

// ParseReset reads the data of RESET.
func ParseReset(b []byte) (Reason, error) {
	if len(b) != 1 || b[0] > byte(ReasonLost) {
		return 0, ErrMalformed
	}
	return Reason(b[0]), nil
}

// ParsePing reads the data of PING and PONG.
func ParsePing(b []byte) (token [8]byte, err error) {
	if len(b) != 8 {
		return token, ErrMalformed
	}
	return [8]byte(b), nil
}
