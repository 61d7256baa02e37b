package mux

import (
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// segment is a buffer with n bytes in it, the first of which came at the time
// at, in Unix nanoseconds. A message that fits behind the bytes
// of the last segment goes there, so any two in a row are more than half full.
type segment struct {
	b  *relay.Buffer
	n  int
	at int64
}

// Count lets the stream's buffers count in p from now on.
func (s *Stream) Count(p relay.Room) {
	s.mu.Lock()
	n := len(s.segs)
	if s.pool != nil {
		n = 0
	} else {
		s.pool = p
	}
	s.mu.Unlock()
	if n > 0 {
		p.Take(n)
	}
}

// Unread is as relay.FrameLink's Unread.
func (s *Stream) Unread() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segs) == 0 {
		return 0
	}
	return s.segs[0].at
}

// mayTake counts n bytes that are about to come; false if they are too many.
func (s *Stream) mayTake(n uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > s.owed {
		return false
	}
	s.owed -= n
	return true
}

// took queues the n bytes in b, and tells whether it keeps b.
func (s *Stream) took(b *relay.Buffer, n int) bool {
	s.mu.Lock()
	if s.err != nil || s.ended || s.deaf {
		s.mu.Unlock()
		return false
	}
	s.held += uint32(n)
	poke(s.readable)
	if k := len(s.segs); k > 0 {
		if last := &s.segs[k-1]; last.n+n <= wire.FrameSize {
			last.n += copy(last.b.Bytes()[last.n:], b.Bytes()[:n])
			s.mu.Unlock()
			return false
		}
	}
	s.segs = append(s.segs, segment{b, n, time.Now().UnixNano()})
	p := s.pool
	s.mu.Unlock()
	if p != nil {
		p.Take(1) // it may end this stream
	}
	return true
}

// awaitLocked waits until there is something to read; the lock is not held
// meanwhile. With whole it waits for a whole segment.
func (s *Stream) awaitLocked(whole bool) error {
	for {
		k := len(s.segs)
		switch {
		case s.rdl.past.Load():
			return errTimeout
		case k > 1 || k == 1 && (!whole || s.pos > 0 || s.ended || s.segs[0].n == wire.FrameSize):
			return nil
		case s.deaf && s.err == nil:
			return network.ErrReset
		case s.ended && !s.deaf:
			return io.EOF
		case s.err != nil:
			return s.err
		}
		s.mu.Unlock()
		select {
		case <-s.readable:
		case <-s.over:
		case <-s.rdl.wait():
		}
		s.mu.Lock()
	}
}

// Read implements network.MuxedStream.
func (s *Stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.awaitLocked(false); err != nil {
		return 0, err
	}
	first := s.segs[0]
	n := copy(p, first.b.Bytes()[s.pos:first.n])
	if s.pos += n; s.pos == first.n {
		s.shiftLocked()
		first.b.Free()
	}
	s.readLocked(n)
	return n, nil
}

// ReadFrame is as relay.FrameLink's.
func (s *Stream) ReadFrame() (*relay.Buffer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.awaitLocked(true); err != nil {
		return nil, err
	}
	first := s.segs[0]
	if s.pos > 0 || first.n < wire.FrameSize {
		return nil, nil
	}
	s.shiftLocked()
	s.readLocked(first.n)
	return first.b, nil
}

// shiftLocked takes the first segment out.
func (s *Stream) shiftLocked() {
	n := copy(s.segs, s.segs[1:])
	s.segs[n] = segment{}
	s.segs, s.pos = s.segs[:n], 0
	if n == 0 && cap(s.segs) > 64 {
		s.segs = nil
	}
	if s.pool != nil {
		s.pool.Give(1)
	}
}

// dropLocked frees what was not read.
func (s *Stream) dropLocked() {
	for _, x := range s.segs {
		x.b.Free()
	}
	if s.pool != nil && len(s.segs) > 0 {
		s.pool.Give(len(s.segs))
	}
	s.segs, s.pos, s.held = nil, 0, 0
}

// readLocked gives credit after n bytes were read, when it is much: half a
// window at a time.
func (s *Stream) readLocked(n int) {
	s.held -= uint32(n)
	if s.ended || s.err != nil {
		return
	}
	s.shrinkLocked()
	due := s.target - min(s.owed+s.held, s.target)
	if due == 0 || due < s.target/2 {
		return
	}
	now := time.Now()
	// A window that was half read within four round trips is too small.
	if rtt := time.Duration(s.m.rtt.Load()); rtt > 0 && now.Sub(s.epoch) < 4*rtt && s.target < s.most {
		more := min(s.target, s.most-s.target)
		if s.span == nil || s.span.ReserveMemory(int(more), 128) == nil {
			s.target += more
			s.grown += more
			due += more
		}
	}
	s.epoch = now
	s.owed += due
	s.m.control(head{typeWindow, 0, s.id, due})
}

// shrinkLocked halves a window that is half full though it is being read, when
// the pool is short: what waits there makes nothing faster.
func (s *Stream) shrinkLocked() {
	if s.target <= FirstWindow || s.held < s.target/2 || s.pool == nil || !s.pool.Scarce() {
		return
	}
	less := min(s.target/2, s.target-FirstWindow)
	s.target -= less
	if back := min(less, s.grown); back > 0 {
		s.grown -= back
		if s.span != nil && s.most > 0 {
			s.span.ReleaseMemory(int(back))
		}
	}
}

// Open gives the stream the window of a circuit.
func (s *Stream) Open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.ended || s.most == 0 || s.most >= s.m.most {
		return
	}
	s.target, s.most, s.epoch = max(s.target, s.m.first), s.m.most, time.Now()
	if due := s.target - min(s.owed+s.held, s.target); due > 0 {
		s.owed += due
		s.m.control(head{typeWindow, 0, s.id, due})
	}
}
