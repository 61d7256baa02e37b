package mux

import (
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"wanderfs/relay"
)

// Stream is one stream of a Conn. One goroutine reads at a time; all else
// may be called at any time.
//
//	open --finish--> ended: what has come can be read, then io.EOF
//	     --CloseWrite--> mute: no more goes out
//	     --CloseRead--> deaf: what comes is dropped, and the other side not told
//	ended or deaf, and mute: forgotten; what still comes is dropped
//	any --Reset, a reset, the connection's end--> lost
type Stream struct {
	m       *Conn
	id      uint32
	span    network.ResourceScopeSpan // of the receive window's memory; nil: none
	over    chan struct{}             // closed when err is set
	opening bool                      // ours, and not accepted yet; guarded by m.mu

	readable, writable chan struct{} // something changed; capacity 1
	rdl, wdl           deadline

	mu      sync.Mutex // guards all below
	err     error      // reset, or the connection is over
	ended   bool       // the other side writes no more
	deaf    bool       // closed for reading here
	mute    bool       // closed for writing here
	window  uint32     // bytes that may be sent
	waiting int        // Writes that wait for it
	need    int        // what the least of them wants, or less; used while some wait

	segs   []segment
	pos    int        // read of the first one
	held   uint32     // bytes in segs that were not read
	owed   uint32     // bytes that the other side may still send
	target uint32     // what held and owed are to be together
	most   uint32     // what target may grow to
	grown  uint32     // of target, what was reserved in span
	pool   relay.Room // segs count there; nil: nowhere
	epoch  time.Time  // credit was last given
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Stream) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// lose ends the stream at once on this side. What came before the other side
// had said all can still be read.
func (s *Stream) lose(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.err = err
	if !s.ended {
		s.dropLocked()
	}
	close(s.over)
	s.rdl.end()
	s.wdl.end()
	return true
}

// silent tells why nothing may be written, if so.
func (s *Stream) silent() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mute {
		return io.ErrClosedPipe
	}
	return s.err
}

// finish notes that the other side writes no more.
func (s *Stream) finish() {
	s.mu.Lock()
	s.ended = true
	done := s.mute
	poke(s.readable)
	s.mu.Unlock()
	if done {
		s.forget()
	}
}

// forget lets the connection drop what still comes for the stream.
func (s *Stream) forget() {
	m := s.m
	m.mu.Lock()
	if m.streams[s.id] == s {
		delete(m.streams, s.id)
	}
	m.acceptedLocked(s)
	m.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = 0 // nothing is reserved any more
	if s.span != nil {
		s.span.Done() // may be called twice
	}
}

// CloseWrite implements network.MuxedStream.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	if s.err != nil || s.mute {
		err := s.err
		if s.mute {
			err = nil
		}
		s.mu.Unlock()
		return err
	}
	s.mute = true
	done := s.ended || s.deaf
	s.wakeLocked()
	s.mu.Unlock()
	s.m.control(head{typeWindow, flagFIN, s.id, 0})
	if done {
		s.forget()
	}
	return nil
}

// CloseRead implements network.MuxedStream. The other side is not told.
func (s *Stream) CloseRead() error {
	s.mu.Lock()
	s.deaf = true
	s.dropLocked()
	done := s.mute
	poke(s.readable)
	s.mu.Unlock()
	if done {
		s.forget()
	}
	return nil
}

// Close implements network.MuxedStream.
func (s *Stream) Close() error {
	s.CloseRead()
	err := s.CloseWrite()
	s.lose(network.ErrReset) // ends a Write that waits behind others
	s.forget()
	return err
}

// Reset implements network.MuxedStream.
func (s *Stream) Reset() error { return s.ResetWithError(0) }

// ResetWithError implements network.MuxedStream.
func (s *Stream) ResetWithError(code network.StreamErrorCode) error {
	s.mu.Lock()
	told := s.mute && (s.ended || s.deaf) // it is over on both sides, or soon
	s.mu.Unlock()
	if s.lose(&network.StreamError{ErrorCode: code}) && !told {
		s.m.control(head{typeWindow, flagRST, s.id, uint32(code)})
	}
	s.CloseRead()
	s.forget()
	return nil
}

// SetDeadline implements network.MuxedStream.
func (s *Stream) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements network.MuxedStream.
func (s *Stream) SetReadDeadline(t time.Time) error {
	if t == mark {
		s.m.found = s
		return nil
	}
	s.rdl.move(t)
	return nil
}

// SetWriteDeadline implements network.MuxedStream.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.wdl.move(t)
	return nil
}
