package node

import (
	"context"
	"errors"
	"io"

	"github.com/libp2p/go-libp2p/core/network"

	"wanderfs/relay"
)

// read takes messages until the connection ends.
func (m *muxConn) read() {
	var b [muxHeader]byte
	for {
		_, err := io.ReadFull(m.c, b[:])
		if err == nil {
			err = m.message(b[:])
		}
		if err != nil {
			if errors.Is(err, errMux) {
				m.farewell(muxProtocol)
			}
			m.end(err)
			return
		}
		m.heard.Add(1)
	}
}

func (m *muxConn) message(b []byte) error {
	h, err := parseMuxHead(b)
	if err != nil {
		return err
	}
	switch h.typ {
	case muxPing:
		if h.flags&muxSYN != 0 {
			m.control(muxHead{muxPing, muxACK, 0, h.length})
			return m.patience()
		}
		select {
		case m.ponged <- h.length:
		default: // nobody asked
		}
		return nil
	case muxGoAway: // libp2p closes a connection as a whole
		return &network.ConnError{Remote: true, ErrorCode: network.ConnErrorCode(h.length)}
	}
	return m.forStream(h)
}

// forStream takes a message for a stream. One that is not there any more is
// no fault: the other side may not know yet.
func (m *muxConn) forStream(h muxHead) error {
	if h.flags&muxSYN != 0 {
		if err := m.incoming(h.id); err != nil {
			return err
		}
	}
	m.mu.Lock()
	s := m.streams[h.id]
	if s != nil && h.flags&(muxACK|muxFIN|muxRST) != 0 {
		m.acceptedLocked(s)
	}
	m.mu.Unlock()
	if s != nil && h.flags&muxRST != 0 {
		e := &network.StreamError{Remote: true}
		if h.typ == muxWindow {
			e.ErrorCode = network.StreamErrorCode(h.length)
		}
		s.lose(e)
		s.forget()
		s = nil
	}
	var err error
	switch {
	case h.typ == muxData:
		err = m.data(s, h.length)
	case s != nil:
		err = s.widen(h.length)
	}
	if err == nil && s != nil && h.flags&muxFIN != 0 {
		s.finish()
	}
	return err
}

// acceptedLocked notes that the other side knows a stream of ours.
func (m *muxConn) acceptedLocked(s *muxStream) {
	if s.opening {
		s.opening = false
		m.openedLocked()
	}
}

func (m *muxConn) openedLocked() {
	m.opening--
	m.room.Broadcast()
}

// data reads n bytes for s; nil drops them.
func (m *muxConn) data(s *muxStream, n uint32) error {
	if s != nil && !s.mayTake(n) {
		return errMux
	}
	for n > 0 {
		b := relay.NewBuffer()
		k := min(int(n), len(b.Bytes()))
		if _, err := io.ReadFull(m.c, b.Bytes()[:k]); err != nil {
			b.Free()
			return err
		}
		m.heard.Add(1)
		if n -= uint32(k); s == nil || !s.took(b, k) {
			b.Free()
		}
	}
	return nil
}

// incoming makes a stream of the other side known, or resets it.
func (m *muxConn) incoming(id uint32) error {
	m.mu.Lock()
	known := m.streams[id] != nil
	m.mu.Unlock()
	if known || id%2 != m.parity || id == 0 {
		return errMux
	}
	if err := m.patience(); err != nil { // each stream makes us say something
		return err
	}
	s, err := m.newStream(id)
	if err == nil {
		select {
		case m.accepted <- s:
			return nil
		default:
			s.lose(network.ErrReset)
			s.forget()
		}
	}
	m.control(muxHead{muxWindow, muxRST, id, 0})
	return nil
}

// patience waits while the other side makes us say more than it reads.
func (m *muxConn) patience() error {
	return m.await(context.Background(), func() bool { return len(m.queue) <= muxQueue })
}
