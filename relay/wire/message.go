package wire

import (
	"encoding/binary"
)

// Status is the outcome of a set-up at a hop, and of ASK. SPEC.md §6, §7.1
type Status byte

// Outcomes. They say as much as the asker needs to choose another way.
const (
	StatusOK      Status = 0
	StatusRefused Status = 1 // not wanted: bad record, limits
	StatusFailed  Status = 2 // tried, and it did not work
)

// MaxAsk is the longest request and the longest answer in bytes. SPEC.md §7.1
const MaxAsk = 512 << 10

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
const ListenSize = 32 + PublicKeySize + 32 + 1 + 64

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
	b = append(b, l.Keys.Key[:]...)
	b = append(b, l.Verifier[:]...)
	b = append(b, l.Effort)
	return append(b, l.Sig[:]...), nil
}

// ParseListen reads exactly one Listen. It does not verify the signature.
func ParseListen(b []byte) (Listen, error) {
	const v = 32 + PublicKeySize
	if len(b) != ListenSize || b[v+32] > MaxListenEffort {
		return Listen{}, ErrMalformed
	}
	return Listen{
		Keys:     SessionKeys{Sign: [32]byte(b), Key: PublicKey(b[32:])},
		Verifier: [32]byte(b[v:]),
		Effort:   b[v+32],
		Sig:      [64]byte(b[v+33:]),
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
const MaxFirst = MaxData - 32 - 32 - HelloSize

// AppendBinary appends j.
func (j Join) AppendBinary(b []byte) ([]byte, error) {
	if len(j.Msg) < HelloSize || len(j.Msg) > HelloSize+MaxFirst {
		return b, ErrMalformed
	}
	b = append(b, j.Number[:]...)
	b = append(b, j.MAC[:]...)
	return append(b, j.Msg...), nil
}

// ParseJoin reads one Join. Its Msg is a part of b.
func ParseJoin(b []byte) (Join, error) {
	if len(b) < 64+HelloSize || len(b) > MaxData {
		return Join{}, ErrMalformed
	}
	return Join{Number: SessionNumber(b[:32]), MAC: [32]byte(b[32:64]), Msg: b[64:]}, nil
}

// ParseOpen checks the data of OPEN, a first end-to-end handshake message.
func ParseOpen(b []byte) ([]byte, error) {
	if len(b) < HelloSize || len(b) > HelloSize+MaxFirst {
		return nil, ErrMalformed
	}
	return b, nil
}

// ParseOpened reads the data of OPENED and JOINED, the second end-to-end
// handshake message.
func ParseOpened(b []byte) (msg [WelcomeSize]byte, err error) {
	if len(b) != WelcomeSize {
		return msg, ErrMalformed
	}
	return [WelcomeSize]byte(b), nil
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
