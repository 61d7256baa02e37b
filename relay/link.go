package relay

import (
	"context"
	"io"
	"time"

	"wanderfs/relay/wire"
)

// Link is one byte stream to an authenticated neighbour, for one circuit. It
// is reliable and ordered. Close lets the bytes written so far arrive, Reset
// drops what is on its way; after either, Reads and Writes that wait return.
// One goroutine reads while another writes.
type Link interface {
	io.ReadWriteCloser
	Reset() error
	Peer() wire.NodeID
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// LinkRoom is how many bytes before a frame a FrameLink may use for a header
// of its own.
const LinkRoom = 16

// FrameLink is a Link that hands over whole frames without copying them.
type FrameLink interface {
	Link
	// ReadFrame waits for bytes, and gives the next ones if they lie in a
	// buffer of their own as one whole frame. Else it gives nil, and Read gives
	// them. The caller frees the buffer.
	ReadFrame() (*Buffer, error)
	// WriteFrame writes the frame b[LinkRoom:]. It may overwrite what is before
	// it and keeps no hold of b.
	WriteFrame(b []byte) error
	// Count lets the Buffers in which lies what came and was not read count in
	// r until they are read or the link ends. It is called once.
	Count(r Room)
	// Unread gives when the first byte in the oldest of them came, in Unix
	// nanoseconds; 0: all was read.
	Unread() int64
}

// Room is the bounded pool of buffers of a relay, to those who hold some for
// it. All methods are safe for concurrent use.
type Room interface {
	// Take counts buffers. If there are too many then, it ends what stands
	// still, which may be the link that calls: it must hold no lock.
	Take(buffers int)
	// Give says that buffers were freed, or are about to be. It does not wait.
	Give(buffers int)
	// Scarce tells whether more than half of the room is taken: a window that
	// is full anyway should not be filled anew. It does not wait.
	Scarce() bool
}

// Network opens links. Dial gives a link to the very node that the descriptor
// names, or an error; it decides which addresses may be dialled.
type Network interface {
	Dial(ctx context.Context, to wire.Descriptor) (Link, error)
}

// Far answers requests at a path's far end. Answer is called by many
// goroutines; its error reaches the asker without its text. An answer longer
// than wire.MaxAsk is an error.
type Far interface {
	Answer(ctx context.Context, req []byte) ([]byte, error)
}
