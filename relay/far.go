package relay

import (
	"container/list"
	"sync"
	"sync/atomic"

	"wanderfs/relay/wire"
)

// spare is how many cells for unknown streams a circuit may get beyond those
// that its streams' credit explains.
const spare = 64 // ours; a hidden channel if it were large

// farEnd is a circuit's last relay at work: it answers requests, and as a
// gateway it splices streams of two circuits, cell to cell. What goes back to
// the builder waits in the streams' own queues, which the other side's credit
// bounds; write takes from them in turn.
type farEnd struct {
	c *circuit

	solutions uint64             // good ones so far; used by handle, as are those below
	solved    wire.SessionNumber // whom the last one was for
	paid      bool               // and it was not used yet
	newest    uint32             // stream that the builder opened last

	open  int // as many as there are streams; guarded by Relay.crowded.mu
	index int // among those who have some; guarded by Relay.crowded.mu

	mu      sync.Mutex // guards all below, and the halves' fields
	wake    *sync.Cond // for write: something is ready, or closed
	closed  bool
	streams map[uint32]*half
	order   list.List // of them, as they were opened
	ready   []*half   // halves with something to send, in turn
	pong    [8]byte
	ponging bool
	next    uint32 // next stream id of ours, even
	budget  int    // cells for unknown streams
	asks    int    // requests that come in, are answered, or whose answer was not sent yet
	listens *standing
	asking  map[uint32]*asking
	ages    ages // of what waits in streams and of requests in asking
}

// half is one side of a spliced stream, or an answer on its way: what waits to
// be sent to this far end's builder. Guarded by far.mu but for peer, far, id
// and opened.
type half struct {
	far  *farEnd
	id   uint32
	peer *half // the other circuit's; nil for control and answers

	opened atomic.Bool // the session has answered: DATA and END may come from this side

	spot    *list.Element // in far.order
	q       fifo
	credit  int // cells that may still be sent to this side's builder
	grant   int // credit that this side's builder is to be told of
	gone    bool
	reset   bool // say so, drop all else
	lost    bool // say so after what waits
	reason  wire.Reason
	gotEnd  bool // this side's builder sends no more
	waiting bool // in far.ready
	unsaid  bool // its OPEN was not sent yet
	answer  int  // cells of an answer that were not sent yet; 0: this is none
}

func newFarEnd(c *circuit) *farEnd {
	e := &farEnd{c: c, streams: map[uint32]*half{}, asking: map[uint32]*asking{}, next: 2, budget: spare}
	e.wake = sync.NewCond(&e.mu)
	return e
}

// handle takes one cell from the builder, and the frame with it. Its errors
// end the circuit.
func (e *farEnd) handle(f *frame) error {
	switch f.h.Cmd {
	case wire.CmdData, wire.CmdEnd, wire.CmdOpened:
		return e.pass(f)
	}
	defer f.free()
	switch f.h.Cmd {
	case wire.CmdWindow:
		return e.window(f)
	case wire.CmdReset:
		return e.gotReset(f)
	case wire.CmdPing:
		return e.ping(f)
	case wire.CmdAsk:
		return e.ask(f)
	case wire.CmdListen:
		return e.listen(f)
	case wire.CmdJoin:
		return e.join(f)
	case wire.CmdSolution:
		return e.solution(f)
	}
	return errProtocol
}

// fresh tells whether the builder may open a stream with this id, and notes
// that it did: each has a higher one than all before, so that none comes twice
// and one number suffices to know. SPEC.md §7
func (e *farEnd) fresh(id uint32) bool {
	if id%2 == 0 || id <= e.newest {
		return false
	}
	e.newest = id
	return true
}

func (e *farEnd) ping(f *frame) error {
	token, err := wire.ParsePing(f.data)
	if err != nil {
		return err
	}
	if f.h.Stream != 0 {
		return errProtocol
	}
	e.mu.Lock()
	e.pong, e.ponging = token, true
	e.wake.Signal()
	e.mu.Unlock()
	return nil
}

// readyLocked puts h into the line of those with something to send.
func (e *farEnd) readyLocked(h *half) {
	if !h.waiting && !e.closed {
		h.waiting = true
		e.ready = append(e.ready, h)
		e.wake.Signal()
	}
}

// write sends what is ready, one cell of each stream in turn, until the far
// end is closed. It owns the circuit's way back.
func (e *farEnd) write() {
	for {
		f := e.take()
		if f == nil {
			return
		}
		err := e.c.sendCell(f)
		f.free()
		if err != nil {
			e.c.end(err)
			return
		}
	}
}

// take waits for the next cell, complete at wire.TagSize; nil means closed.
func (e *farEnd) take() *frame {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		switch {
		case e.closed:
			return nil
		case e.ponging:
			e.ponging = false
			return e.control(wire.CmdPong, 0, e.pong[:])
		case len(e.ready) == 0:
			e.wake.Wait()
			continue
		}
		h := e.ready[0]
		copy(e.ready, e.ready[1:])
		e.ready = e.ready[:len(e.ready)-1]
		h.waiting = false
		f := h.takeLocked()
		if h.reset || h.lost || h.grant > 0 || h.q.n > 0 {
			e.readyLocked(h)
		}
		if f != nil {
			return f
		}
	}
}

// takeLocked gives the half's next cell, nil if there is none.
func (h *half) takeLocked() *frame {
	switch {
	case h.reset, h.lost && h.q.n == 0:
		h.reset, h.lost = false, false
		h.gone, h.grant = true, 0 // nothing follows
		return h.far.control(wire.CmdReset, h.id, []byte{byte(h.reason)})
	case h.grant > 0:
		var b [4]byte
		n := h.grant
		h.grant = 0
		return h.far.control(wire.CmdWindow, h.id, wire.AppendWindow(b[:0], n))
	}
	f := h.q.pop()
	if f == nil {
		return nil
	}
	h.far.ages.remove(&f.kept)
	h.unsaid = false
	if h.answer > 0 {
		if h.answer--; h.answer == 0 {
			h.far.asks-- // it is not over before: answers that nobody takes are held, too
		}
	}
	f.h.Stream = h.id
	f.h.Put(f.cell(wire.TagSize))
	return f
}

// control makes a small cell at wire.TagSize. It takes a frame even of a full
// pool: the next one who reads makes room.
func (e *farEnd) control(cmd wire.Command, id uint32, data []byte) *frame {
	f := newFrame()
	e.c.r.pool.charge(f)
	wire.Header{Cmd: cmd, Len: len(data), Stream: id}.Put(f.cell(wire.TagSize))
	copy(f.b[wire.TagSize+wire.HeaderSize:], data)
	f.pad(wire.TagSize, len(data))
	return f
}

// close ends the far end: its streams are reset at their other ends, its
// sessions are forgotten, what waits is dropped.
func (e *farEnd) close() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.closed = true
	var dropped, ended []*half
	for _, h := range e.ready {
		h.clearLocked()
	}
	for _, h := range e.streams {
		h.clearLocked()
		h.gone = true
		switch {
		case h.peer == nil:
		case h.gotEnd:
			ended = append(ended, h.peer)
		default:
			dropped = append(dropped, h.peer)
		}
	}
	e.removeAllLocked()
	for _, a := range e.asking {
		e.c.r.pool.give(a.frames)
		e.ages.remove(&a.kept)
	}
	clear(e.asking)
	e.ready = nil
	listens := e.listens
	e.listens = nil
	e.wake.Broadcast()
	e.mu.Unlock()
	if listens != nil {
		e.c.r.forget(listens)
	}
	for _, h := range dropped {
		h.drop(wire.ReasonLost)
	}
	for _, h := range ended {
		h.lose(wire.ReasonLost)
	}
}
