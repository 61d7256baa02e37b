package mux

import (
	"errors"
	"os"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// control sends a message without data, soon; it does not wait.
func (m *Conn) control(h head) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	m.queue = h.append(m.queue)
	if !m.sending {
		m.sending = true
		m.wg.Go(m.sendQueue) // err is nil, so Close has not come to Wait
	}
}

// sendQueue writes what control has queued, if nobody with data does.
func (m *Conn) sendQueue() {
	for {
		select {
		case m.writing <- struct{}{}:
		case <-m.over:
			return
		}
		err := m.flush()
		<-m.writing
		m.mu.Lock()
		if err == nil && len(m.queue) > 0 {
			m.mu.Unlock()
			continue
		}
		m.sending = false
		m.mu.Unlock()
		if err != nil {
			m.end(err)
		}
		return
	}
}

// flush writes the queue. The caller has the token.
func (m *Conn) flush() error {
	m.mu.Lock()
	q := m.queue
	m.queue = nil
	if len(q) > 0 {
		m.room.Broadcast()
	}
	m.mu.Unlock()
	if len(q) == 0 {
		return nil
	}
	return m.put(q)
}

// put writes b. The caller has the token. Of the deadline at least half is
// left: to set it for each message would cost too much.
func (m *Conn) put(b []byte) error {
	if now := time.Now(); m.until.Sub(now) < stallMost/2 {
		m.until = now.Add(stallMost)
		m.c.SetWriteDeadline(m.until)
	}
	_, err := m.c.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) { // not the deadline of a stream, which may be tried again
		err = errStalled
	}
	return err
}

var copies = sync.Pool{New: func() any { // buffers only
	b := make([]byte, 0, headSize+wire.FrameSize)
	return &b
}}

// write writes a message with data: b, in whose first bytes the header goes, or
// a copy of p. The copy is made when its turn has come: many may wait.
func (m *Conn) write(s *Stream, b, p []byte) error {
	select {
	case m.writing <- struct{}{}:
	default:
		select {
		case m.writing <- struct{}{}:
		case <-s.over: // or the connection
			return s.why()
		case <-s.wdl.wait():
			return errTimeout
		}
	}
	err := m.flush()
	if err == nil {
		// Its end may have been in the queue; one that comes now goes behind b.
		if err := s.silent(); err != nil {
			<-m.writing
			return err
		}
		if b == nil {
			copied := copies.Get().(*[]byte)
			defer copies.Put(copied)
			b = append(append(*copied, make([]byte, headSize)...), p...)
		}
		head{typeData, 0, s.id, uint32(len(b) - headSize)}.append(b[:0])
		err = m.put(b)
	}
	<-m.writing
	if err != nil {
		m.end(err)
		return m.why()
	}
	m.turns.Sent(len(b) - headSize)
	return nil
}

// farewell tells the other side why, if it takes that quickly.
func (m *Conn) farewell(code uint32) {
	t := time.NewTimer(farewellMost)
	defer t.Stop()
	select {
	case m.writing <- struct{}{}:
		m.c.SetWriteDeadline(time.Now().Add(farewellMost))
		m.c.Write(head{typeGoAway, 0, 0, code}.append(nil))
		<-m.writing
	case <-t.C:
	case <-m.over:
	}
}
