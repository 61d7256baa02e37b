package relay

import (
	"time"

	"wanderfs/relay/wire"
)

// find gives the half that a builder's cell belongs to, nil if there is none
// (any more).
func (e *farEnd) find(id uint32) *half {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.streams[id]
}

// unknown counts a cell for no stream against the budget.
func (e *farEnd) unknown() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.budget--; e.budget < 0 {
		return errProtocol
	}
	return nil
}

// pass hands a cell to the other circuit, as it is.
func (e *farEnd) pass(f *frame) error {
	h := e.find(f.h.Stream)
	if h == nil || h.peer == nil {
		f.free()
		return e.unknown()
	}
	if !h.inTurn(f.h) {
		f.free()
		return errProtocol
	}
	if f.h.Cmd == wire.CmdOpened {
		f.h.Cmd = wire.CmdJoined
	}
	n, cmd := len(f.data), f.h.Cmd
	ok := h.peer.push(f) // f is gone now
	if !ok {
		return errProtocol
	}
	if n > wire.TagSize {
		e.c.r.bytes.Add(uint64(n - wire.TagSize))
	}
	if cmd == wire.CmdEnd {
		h.settle()
	}
	return nil
}

// inTurn tells whether a cell may come from this side's builder now, and notes
// that it came. Who breaks the order is to lose his own circuit here: the other
// side could only give up its half of the way, which for a publisher is that of
// all his readers.
func (h *half) inTurn(c wire.Header) bool {
	switch {
	case c.Cmd == wire.CmdOpened:
		if h.id%2 != 0 || h.opened.Load() || c.Len != wire.WelcomeSize { // only a publisher answers OPEN
			return false
		}
		h.opened.Store(true)
		h.peer.opened.Store(true)
		return true
	case !h.opened.Load(), c.Len < wire.TagSize, c.Cmd == wire.CmdEnd && c.Len > wire.TagSize:
		return false
	}
	h.far.mu.Lock()
	defer h.far.mu.Unlock()
	if h.gotEnd {
		return false
	}
	h.gotEnd = c.Cmd == wire.CmdEnd
	return true
}

// push queues a cell for the half's builder; it takes the frame. False means
// that it exceeds the credit.
func (h *half) push(f *frame) bool {
	ok := h.pushed(f)
	h.far.c.waits()
	return ok
}

func (h *half) pushed(f *frame) bool {
	e := h.far
	e.mu.Lock()
	defer e.mu.Unlock()
	if h.gone || e.closed {
		f.free()
		return true
	}
	if f.h.Cmd == wire.CmdData {
		if h.credit == 0 {
			f.free()
			return false
		}
		h.credit--
	}
	h.queueLocked(f)
	return true
}

// queueLocked queues a cell. Who calls it says so to the circuit, when he has
// let go of the lock.
func (h *half) queueLocked(f *frame) {
	h.far.ages.add(&f.kept, time.Now().UnixNano(), h)
	h.q.push(f)
	h.far.readyLocked(h)
}

// clearLocked drops what waits.
func (h *half) clearLocked() {
	for f := h.q.pop(); f != nil; f = h.q.pop() {
		h.far.ages.remove(&f.kept)
		f.free()
	}
}

// settle forgets a stream whose both directions have ended. What waits is
// still sent.
func (h *half) settle() {
	h.far.mu.Lock()
	a := h.gotEnd
	h.far.mu.Unlock()
	h.peer.far.mu.Lock()
	b := h.peer.gotEnd
	h.peer.far.mu.Unlock()
	if !a || !b {
		return
	}
	for _, x := range []*half{h, h.peer} {
		x.far.mu.Lock()
		if x.far.removeLocked(x) {
			x.far.budget += wire.MaxWindow // credit for what was read late
		}
		x.far.mu.Unlock()
	}
}

// window hands credit on: this side's builder can take more.
func (e *farEnd) window(f *frame) error {
	n, err := wire.ParseWindow(f.data)
	if err != nil {
		return err
	}
	h := e.find(f.h.Stream)
	if h == nil || h.peer == nil {
		return e.unknown()
	}
	if !h.opened.Load() { // nothing was read yet; it would come to a session before its OPEN
		return errProtocol
	}
	e.mu.Lock()
	h.credit += n
	bad := h.credit > wire.MaxWindow
	e.mu.Unlock()
	if bad {
		return errProtocol
	}
	o := h.peer
	o.far.mu.Lock()
	if !o.gone {
		o.grant += n
		o.far.readyLocked(o)
	}
	o.far.mu.Unlock()
	return nil
}

// gotReset forgets a stream because this side's builder did.
func (e *farEnd) gotReset(f *frame) error {
	why, err := wire.ParseReset(f.data)
	if err != nil {
		return err
	}
	h := e.find(f.h.Stream)
	if h == nil {
		return e.unknown()
	}
	h.vanish()
	if h.peer != nil {
		h.peer.drop(why)
	}
	return nil
}

// vanish removes a half without a word to its builder.
func (h *half) vanish() {
	e := h.far
	e.mu.Lock()
	defer e.mu.Unlock()
	h.forgetLocked()
}

// forgetLocked drops what waits. The builder may still send what its credit,
// which is the peer's, allows.
func (h *half) forgetLocked() {
	if h.gone {
		return
	}
	h.gone, h.grant = true, 0
	h.clearLocked()
	if h.far.removeLocked(h) {
		h.far.budget += wire.MaxWindow
	}
}

// drop removes a half at once and tells its builder why.
func (h *half) drop(why wire.Reason) {
	e := h.far
	e.mu.Lock()
	defer e.mu.Unlock()
	if h.gone {
		return
	}
	h.forgetLocked()
	if h.unsaid { // it was not opened yet: to its builder the stream never was
		return
	}
	h.reset, h.reason = true, why
	e.readyLocked(h)
}

// lose tells the builder that the other end is gone, after what waits.
func (h *half) lose(why wire.Reason) {
	e := h.far
	e.mu.Lock()
	defer e.mu.Unlock()
	if h.gone || !e.removeLocked(h) {
		return
	}
	e.budget += wire.MaxWindow
	h.lost, h.reason = true, why
	e.readyLocked(h)
}

// longest gives the stream that holds the oldest cell, and since when, in Unix
// nanoseconds, 0 if nothing waits; nil for a request that is not whole, and for
// answers, which nothing but the circuit's end takes back.
func (e *farEnd) longest() (oldest *half, since int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := e.ages.first
	switch {
	case k == nil:
		return nil, 0
	case k.by == nil, k.by.peer == nil:
		return nil, k.at
	}
	return k.by, k.at
}

// lostBothWays resets a stream at both ends.
func (h *half) lostBothWays() {
	h.drop(wire.ReasonLost)
	if h.peer != nil {
		h.peer.drop(wire.ReasonLost)
	}
}
