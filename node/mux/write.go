package mux

import (
	"io"
	"math"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// takeWindow waits for a window of at least n bytes and takes up to most.
func (s *Stream) takeWindow(n, most int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.mute:
			s.wakeLocked() // the next one who waits
			return 0, io.ErrClosedPipe
		case s.err != nil:
			return 0, s.err
		case s.wdl.past.Load():
			s.wakeLocked() // what woke this Write may have been credit
			return 0, errTimeout
		case int64(s.window) >= int64(n):
			took := int(min(int64(most), int64(s.window)))
			s.window -= uint32(took)
			s.wakeLocked()
			return took, nil
		}
		if s.waiting == 0 || n < s.need {
			s.need = n
		}
		s.waiting++
		s.mu.Unlock()
		select {
		case <-s.writable:
		case <-s.over:
		case <-s.wdl.wait():
		}
		s.mu.Lock()
		s.waiting--
	}
}

// wakeLocked wakes a Write that waits, if there is one that can go on or is to
// end.
func (s *Stream) wakeLocked() {
	if s.waiting > 0 && (s.mute || int64(s.window) >= int64(s.need)) {
		poke(s.writable)
	}
}

// widen adds to the window of what may be sent.
func (s *Stream) widen(n uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > math.MaxUint32-s.window {
		return errProtocol
	}
	s.window += n
	s.wakeLocked()
	return nil
}

// Write implements network.MuxedStream.
func (s *Stream) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k, err := s.takeWindow(1, min(len(p), wire.FrameSize))
		if err != nil {
			return n, err
		}
		if err = s.m.write(s, nil, p[:k]); err != nil {
			s.widen(uint32(k))
			return n, err
		}
		n += k
		p = p[k:]
	}
	return n, nil
}

// WriteFrame is as relay.FrameLink's. It waits until the window takes all of
// the frame: each is one message.
func (s *Stream) WriteFrame(b []byte) error {
	n := len(b) - relay.LinkRoom
	if _, err := s.takeWindow(n, n); err != nil {
		return err
	}
	err := s.m.write(s, b[relay.LinkRoom-headSize:], nil)
	if err != nil {
		s.widen(uint32(n))
	}
	return err
}
