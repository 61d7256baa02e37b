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
