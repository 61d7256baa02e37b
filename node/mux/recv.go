package mux

import (
	"context"
	"errors"
	"io"

	"github.com/libp2p/go-libp2p/core/network"

	"wanderfs/relay"
)

// read takes messages until the connection ends.
func (m *Conn) read() {
	var b [headSize]byte
	for {
		_, err := io.ReadFull(m.c, b[:])
		if err == nil {
			err = m.message(b[:])
		}
		if err != nil {
			if errors.Is(err, errProtocol) {
				m.farewell(codeProtocol)
			}
			m.end(err)
			return
		}
		m.heard.Add(1)
	}
}

func (m *Conn) message(b []byte) error {
	h, err := parseHead(b)
	if err != nil {
		return err
	}
	switch h.typ {
	case typePing:
		if h.flags&flagSYN != 0 {
			m.control(head{typePing, flagACK, 0, h.length})
			return m.patience()
		}
		select {
		case m.ponged <- h.length:
		default: // nobody asked
		}
		return nil
	case typeGoAway: // libp2p closes a connection as a whole
		return &network.ConnError{Remote: true, ErrorCode: network.ConnErrorCode(h.length)}
	}
	return m.forStream(h)
}

// forStream takes a message for a stream. One that is not there any more is
// no fault: the other side may not know yet.
func (m *Conn) forStream(h head) error {
	if h.flags&flagSYN != 0 {
		if err := m.incoming(h.id); err != nil {
			return err
		}
	}
	m.mu.Lock()
	s := m.streams[h.id]
	if s != nil && h.flags&(flagACK|flagFIN|flagRST) != 0 {
		m.acceptedLocked(s)
	}
	m.mu.Unlock()
	if s != nil && h.flags&flagRST != 0 {
		e := &network.StreamError{Remote: true}
		if h.typ == typeWindow {
			e.ErrorCode = network.StreamErrorCode(h.length)
		}
		s.lose(e)
		s.forget()
		s = nil
	}
	var err error
	switch {
	case h.typ == typeData:
		err = m.data(s, h.length)
	case s != nil:
		err = s.widen(h.length)
	}
	if err == nil && s != nil && h.flags&flagFIN != 0 {
		s.finish()
	}
	return err
}

// acceptedLocked notes that the other side knows a stream of ours.
func (m *Conn) acceptedLocked(s *Stream) {
	if s.opening {
		s.opening = false
		m.openedLocked()
	}
}

func (m *Conn) openedLocked() {
	m.opening--
	m.room.Broadcast()
}

// data reads n bytes for s; nil drops them.
func (m *Conn) data(s *Stream, n uint32) error {
	if s != nil && !s.mayTake(n) {
		return errProtocol
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
func (m *Conn) incoming(id uint32) error {
	m.mu.Lock()
	known := m.streams[id] != nil
	m.mu.Unlock()
	if known || id%2 != m.parity || id == 0 {
		return errProtocol
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
	m.control(head{typeWindow, flagRST, id, 0})
	return nil
}

// patience waits while the other side makes us say more than it reads.
func (m *Conn) patience() error {
	return m.await(context.Background(), func() bool { return len(m.queue) <= queueMost })
}
