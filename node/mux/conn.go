package mux

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
	backlog      = 256                    // streams that wait to be accepted, here or there; further ones are reset, or wait to be opened
	queueMost    = 64 << 10               // bytes of messages without data that wait, before reading and opening wait, too
	pingEvery    = 30 * time.Second       // from one ping to the next
	silenceMost  = 10 * time.Second       // without an answer, or anything else, the connection is dead
	stallMost    = 10 * time.Second       // a write of which nothing goes out fails after this, or half of it
	farewellMost = 100 * time.Millisecond // to say why a connection ends
)

// Sizes of a stream's receive window, in bytes. They follow 2 x rate x round
// trip of one link: 20 MB/s at 100 ms need 4 MiB.
const (
	FirstWindow = 256 << 10 // of every stream, and what is reserved for it; yamux's
	OpenWindow  = 4 << 20   // a circuit's first one
	MaxWindow   = 16 << 20  // what that may grow to
)

// Multiplexer implements network.Multiplexer. Its zero value is ready to use.
type Multiplexer struct {
	Window uint32 // bytes of each circuit's, which does not grow; 0: OpenWindow, growing to MaxWindow
}

// NewConn implements network.Multiplexer.
func (x Multiplexer) NewConn(c net.Conn, isServer bool, scope network.PeerScope) (network.MuxedConn, error) {
	m := &Conn{
		c: c, scope: scope, first: OpenWindow, most: MaxWindow, turns: relay.NewLine(0), next: 1, parity: 0,
		streams: make(map[uint32]*Stream), accepted: make(chan *Stream, backlog),
		writing: make(chan struct{}, 1), over: make(chan struct{}), ponged: make(chan uint32, 1),
	}
	if x.Window > 0 {
		m.first, m.most = x.Window, x.Window
	}
	if isServer {
		m.next, m.parity = 2, 1
	}
	m.room = sync.NewCond(&m.mu)
	m.wg.Go(m.read)
	m.wg.Go(m.ping)
	return m, nil
}

// Conn is one connection. All methods are safe for concurrent use. Idle, it
// holds no buffer.
type Conn struct {
	c        net.Conn
	scope    network.PeerScope // nil: no bound
	turns    *relay.Line
	first    uint32        // bytes of a circuit's receive window
	most     uint32        // bytes it may grow to
	parity   uint32        // of the ids of the other side's streams
	accepted chan *Stream  // sent to by read
	ponged   chan uint32   // numbers of answered pings
	heard    atomic.Uint32 // messages
	rtt      atomic.Int64  // nanoseconds; 0: not known
	wg       sync.WaitGroup

	writing chan struct{} // holds a token while a message is being written
	until   time.Time     // the deadline of c's writes; used by who has the token
	over    chan struct{} // closed when err is set

	mu      sync.Mutex
	err     error              // why it is over; guarded by mu
	streams map[uint32]*Stream // guarded by mu
	next    uint32             // our next stream's id; guarded by mu
	opening int                // streams of ours that were not accepted yet; guarded by mu
	queue   []byte             // messages without data that wait; guarded by mu
	sending bool               // a goroutine is to write them; guarded by mu
	room    *sync.Cond         // there is less in queue, opening is less, or err is set

	finding sync.Mutex
	found   *Stream // see StreamOf; guarded by finding
}

// newStream adds a stream; 0 stands for the next id of ours, which counts in
// opening already.
func (m *Conn) newStream(id uint32) (*Stream, error) {
	s := &Stream{
		m: m, over: make(chan struct{}), readable: make(chan struct{}, 1), writable: make(chan struct{}, 1),
		window: FirstWindow, owed: FirstWindow, target: FirstWindow, most: FirstWindow,
	}
	if m.scope != nil {
		var err error
		if s.span, err = m.scope.BeginSpan(); err != nil {
			return nil, err
		}
		if err := s.span.ReserveMemory(FirstWindow, network.ReservationPriorityAlways); err != nil {
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
func (m *Conn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	if err := m.await(ctx, func() bool {
		ready := len(m.queue) <= queueMost && m.opening < backlog
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
	m.control(head{typeWindow, flagSYN, s.id, 0})
	return s, nil
}

// AcceptStream implements network.MuxedConn.
func (m *Conn) AcceptStream() (network.MuxedStream, error) {
	for {
		select {
		case s := <-m.accepted:
			if s.why() != nil {
				continue // reset while it waited
			}
			m.control(head{typeWindow, flagACK, s.id, 0})
			return s, nil
		case <-m.over:
			return nil, m.why()
		}
	}
}

// await waits until ready, which is called with the lock held, and not again
// once it is true.
func (m *Conn) await(ctx context.Context, ready func() bool) error {
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
func (m *Conn) end(err error) {
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

func (m *Conn) why() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Close implements network.MuxedConn. It waits for all goroutines.
func (m *Conn) Close() error {
	m.end(&network.ConnError{})
	m.wg.Wait()
	return nil
}

// CloseWithError implements network.MuxedConn.
func (m *Conn) CloseWithError(code network.ConnErrorCode) error {
	if code != 0 {
		m.farewell(uint32(code))
	}
	m.end(&network.ConnError{ErrorCode: code})
	m.wg.Wait()
	return nil
}

// IsClosed implements network.MuxedConn.
func (m *Conn) IsClosed() bool {
	select {
	case <-m.over:
		return true
	default:
		return false
	}
}

// As implements network.MuxedConn: a connection gives itself.
func (m *Conn) As(target any) bool {
	t, ok := target.(**Conn)
	if ok {
		*t = m
	}
	return ok
}

// mark is a deadline that nobody means: see StreamOf.
var mark = time.Unix(0, 1)

// Place gives a circuit its place among those that take turns in writing.
func (m *Conn) Place() *relay.Place { return m.turns.Place() }

// StreamOf gives the multiplexer's stream behind one of libp2p's, which does
// not tell: it is the one to which SetReadDeadline(mark) comes.
func (m *Conn) StreamOf(s network.Stream) *Stream {
	m.finding.Lock()
	defer m.finding.Unlock()
	m.found = nil
	s.SetReadDeadline(mark)
	return m.found
}
