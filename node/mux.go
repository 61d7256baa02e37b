package node

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"wanderfs/relay"
)

// All are ours; any value works.
const (
	muxBacklog  = 256                    // streams that wait to be accepted, here or there; further ones are reset, or wait to be opened
	muxQueue    = 64 << 10               // bytes of messages without data that wait, before reading and opening wait, too
	muxPings    = 30 * time.Second       // from one ping to the next
	muxSilence  = 10 * time.Second       // without an answer, or anything else, the connection is dead
	muxStall    = 10 * time.Second       // a write of which nothing goes out fails after this, or half of it
	muxFarewell = 100 * time.Millisecond // to say why a connection ends
)

// mux is the multiplexer of connections: yamux, as libp2p's on the wire. Ours
// reads a circuit's frame into the buffer in which the relay opens it, and
// writes it from there as one TLS record, in the goroutine that made it: with
// go-yamux each frame was copied three times more, and went through one more
// goroutine.
//
// What has come and was not read lies in buffers of a frame's size, any two in
// a row more than half full, however small the messages were. A stream that is
// no circuit's may have muxFirstWindow bytes of it, which the resource manager
// counts; a circuit's buffers count in the relay's pool.
type mux struct {
	window uint32 // bytes of each circuit's, which does not grow; 0: initialWindow, growing to maxWindow
}

// NewConn implements network.Multiplexer.
func (x mux) NewConn(c net.Conn, isServer bool, scope network.PeerScope) (network.MuxedConn, error) {
	m := &muxConn{
		c: c, scope: scope, first: initialWindow, most: maxWindow, turns: relay.NewLine(0), next: 1, parity: 0,
		streams: make(map[uint32]*muxStream), accepted: make(chan *muxStream, muxBacklog),
		writing: make(chan struct{}, 1), over: make(chan struct{}), ponged: make(chan uint32, 1),
	}
	if x.window > 0 {
		m.first, m.most = x.window, x.window
	}
	if isServer {
		m.next, m.parity = 2, 1
	}
	m.room = sync.NewCond(&m.mu)
	m.wg.Go(m.read)
	m.wg.Go(m.ping)
	return m, nil
}

// muxConn is one connection. All methods are safe for concurrent use. Idle, it
// holds no buffer.
type muxConn struct {
	c        net.Conn
	scope    network.PeerScope // nil: no bound
	turns    *relay.Line
	first    uint32          // bytes of a circuit's receive window
	most     uint32          // bytes it may grow to
	parity   uint32          // of the ids of the other side's streams
	accepted chan *muxStream // sent to by read
	ponged   chan uint32     // numbers of answered pings
	heard    atomic.Uint32   // messages
	rtt      atomic.Int64    // nanoseconds; 0: not known
	wg       sync.WaitGroup

	writing chan struct{} // holds a token while a message is being written
	until   time.Time     // the deadline of c's writes; used by who has the token
	over    chan struct{} // closed when err is set

	mu      sync.Mutex
	err     error                 // why it is over; guarded by mu
	streams map[uint32]*muxStream // guarded by mu
	next    uint32                // our next stream's id; guarded by mu
	opening int                   // streams of ours that were not accepted yet; guarded by mu
	queue   []byte                // messages without data that wait; guarded by mu
	sending bool                  // a goroutine is to write them; guarded by mu
	room    *sync.Cond            // there is less in queue, opening is less, or err is set

	finding sync.Mutex
	found   *muxStream // see streamOf; guarded by finding
}

// newStream adds a stream; 0 stands for the next id of ours, which counts in
// opening already.
func (m *muxConn) newStream(id uint32) (*muxStream, error) {
	s := &muxStream{
		m: m, over: make(chan struct{}), readable: make(chan struct{}, 1), writable: make(chan struct{}, 1),
		window: muxFirstWindow, owed: muxFirstWindow, target: muxFirstWindow, most: muxFirstWindow,
	}
	if m.scope != nil {
		var err error
		if s.span, err = m.scope.BeginSpan(); err != nil {
			return nil, err
		}
		if err := s.span.ReserveMemory(countedWindow, network.ReservationPriorityAlways); err != nil {
			s.span.Done()
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.err
	if err == nil && id == 0 {
		if id = m.next; id > 1<<32-3 {
			err = errors.New("multiplexer: no more streams")
		}
	}
	if err != nil {
		if s.span != nil {
			s.span.Done()
		}
		return nil, err
	}
	if id == m.next {
		m.next += 2
		s.opening = true
	}
	s.id = id
	m.streams[id] = s
	return s, nil
}

// OpenStream implements network.MuxedConn. It waits while many streams were
// not accepted yet, or the other side does not read.
func (m *muxConn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	if err := m.await(ctx, func() bool {
		ready := len(m.queue) <= muxQueue && m.opening < muxBacklog
		if ready {
			m.opening++
		}
		return ready
	}); err != nil {
		return nil, err
	}
	s, err := m.newStream(0)
	if err != nil {
		m.mu.Lock()
		m.openedLocked()
		m.mu.Unlock()
		return nil, err
	}
	m.control(muxHead{muxWindow, muxSYN, s.id, 0})
	return s, nil
}

// AcceptStream implements network.MuxedConn.
func (m *muxConn) AcceptStream() (network.MuxedStream, error) {
	for {
		select {
		case s := <-m.accepted:
			if s.why() != nil {
				continue // reset while it waited
			}
			m.control(muxHead{muxWindow, muxACK, s.id, 0})
			return s, nil
		case <-m.over:
			return nil, m.why()
		}
	}
}

// await waits until ready, which is called with the lock held, and not again
// once it is true.
func (m *muxConn) await(ctx context.Context, ready func() bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var stop func() bool
	for {
		switch {
		case m.err != nil:
			return m.err
		case ctx.Err() != nil:
			return ctx.Err()
		case ready():
			return nil
		}
		if stop == nil {
			stop = context.AfterFunc(ctx, func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.room.Broadcast()
			})
			defer stop()
		}
		m.room.Wait()
	}
}

// end ends the connection and all its streams, once.
func (m *muxConn) end(err error) {
	m.mu.Lock()
	if m.err != nil {
		m.mu.Unlock()
		return
	}
	m.err = err
	streams := m.streams
	m.streams = nil
	m.room.Broadcast()
	close(m.over)
	m.mu.Unlock()
	var why *network.ConnError
	if !errors.As(err, &why) {
		why = &network.ConnError{TransportError: err}
	}
	for _, s := range streams { // before c, whose Close may wait for what is being written
		s.lose(why)
		s.forget()
	}
	m.c.Close()
}

func (m *muxConn) why() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Close implements network.MuxedConn. It waits for all goroutines.
func (m *muxConn) Close() error {
	m.end(&network.ConnError{})
	m.wg.Wait()
	return nil
}

// CloseWithError implements network.MuxedConn.
func (m *muxConn) CloseWithError(code network.ConnErrorCode) error {
	if code != 0 {
		m.farewell(uint32(code))
	}
	m.end(&network.ConnError{ErrorCode: code})
	m.wg.Wait()
	return nil
}

// IsClosed implements network.MuxedConn.
func (m *muxConn) IsClosed() bool {
	select {
	case <-m.over:
		return true
	default:
		return false
	}
}

// As implements network.MuxedConn: a connection gives itself.
func (m *muxConn) As(target any) bool {
	t, ok := target.(**muxConn)
	if ok {
		*t = m
	}
	return ok
}

// muxMark is a deadline that nobody means: see streamOf.
var muxMark = time.Unix(0, 1)

// streamOf gives the multiplexer's stream behind one of libp2p's, which does
// not tell: it is the one to which SetReadDeadline(muxMark) comes.
func (m *muxConn) streamOf(s network.Stream) *muxStream {
	m.finding.Lock()
	defer m.finding.Unlock()
	m.found = nil
	s.SetReadDeadline(muxMark)
	return m.found
}
