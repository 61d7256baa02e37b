package wire

import "encoding/binary"

// Sizes of frames and of what is in them, in bytes. SPEC.md §3
const (
	// FrameSize is the length of everything that crosses a link: 16 KiB less
	// the 12 bytes of a yamux header, rounded down to whole AES blocks.
	FrameSize = 16368
	// TagSize is the length of an AES-GCM tag, and of one piece of filler.
	TagSize = 16
	// BodySize is what one layer seals.
	BodySize = FrameSize - TagSize
	// MaxHops is how many relays a path may have; the tail of every frame, and
	// the set-up packet, are made for that many.
	MaxHops = 6
	// TailSize is the computable tail at the end of the innermost body.
	TailSize = TagSize * (MaxHops - 1)
	// CellSize is the length of the cell inside the innermost layer.
	CellSize = BodySize - TailSize
	// HeaderSize is the length of a cell's header.
	HeaderSize = 8
	// MaxData is how many bytes of data a cell carries.
	MaxData = CellSize - HeaderSize
	// RecordSize is how many bytes of a stream's plaintext a cell carries.
	RecordSize = MaxData - TagSize
	// HelloSize is the length of the end-to-end handshake's first message with
	// no first bytes in it. SPEC.md §9
	HelloSize = EncSize + PublicKeySize + TagSize
	// WelcomeSize is the length of its second message. SPEC.md §9
	WelcomeSize = EncSize + TagSize
)

// Command says what a cell is. SPEC.md §7
type Command byte

// The commands. "Out" goes from the path's builder to the relay at its end,
// "back" the other way.
const (
	// 1 and 2 are reserved: making a path longer.
	CmdAsk       Command = 3  // out: a request to whom the far end knows
	CmdAnswer    Command = 4  // back
	CmdListen    Command = 5  // out: be the gateway of a session
	CmdListening Command = 6  // back
	CmdJoin      Command = 7  // out: open a stream to a session
	CmdJoined    Command = 8  // back
	CmdOpen      Command = 9  // back, on a standing path: a reader's stream
	CmdOpened    Command = 10 // out, its answer
	CmdData      Command = 11 // both
	CmdWindow    Command = 12 // both: more credit
	CmdEnd       Command = 13 // both: no more data from here
	CmdReset     Command = 14 // both: the stream is gone
	CmdPing      Command = 15 // out
	CmdPong      Command = 16 // back
	CmdPuzzle    Command = 17 // back: work to do before a stream to a session
	CmdSolution  Command = 18 // out
)

// Header is the head of a cell.
type Header struct {
	Cmd    Command
	Len    int    // of the data, at most MaxData
	Stream uint32 // 0 where a command needs none
}

// Put writes h to the first HeaderSize bytes of b.
func (h Header) Put(b []byte) {
	b[0], b[1] = Version, byte(h.Cmd)
	binary.BigEndian.PutUint16(b[2:4], uint16(h.Len))
	binary.BigEndian.PutUint32(b[4:8], h.Stream)
}

// ParseCell reads the header of a cell of CellSize bytes, and gives the data
// as a part of cell. Padding that is not zero gives ErrMalformed: it would be
// a hidden channel.
func ParseCell(cell []byte) (Header, []byte, error) {
	if len(cell) != CellSize || cell[0] != Version {
		return Header{}, nil, ErrMalformed
	}
	h := Header{
		Cmd:    Command(cell[1]),
		Len:    int(binary.BigEndian.Uint16(cell[2:4])),
		Stream: binary.BigEndian.Uint32(cell[4:8]),
	}
	if h.Len > MaxData || h.Cmd < CmdAsk || h.Cmd > CmdSolution {
		return Header{}, nil, ErrMalformed
	}
	if !zero(cell[HeaderSize+h.Len:]) {
		return Header{}, nil, ErrMalformed
	}
	return h, cell[HeaderSize : HeaderSize+h.Len : HeaderSize+h.Len], nil
}

// zero reports whether all of b is zero.
func zero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
