package relay

import (
	"crypto/subtle"

	"golang.org/x/time/rate"

	"wanderfs/relay/wire"
)

// standing is a session that listens here.
type standing struct {
	far      *farEnd
	number   wire.SessionNumber
	verifier [32]byte
	effort   byte // bits of work for readers under load; 0: none
	joins    *rate.Limiter
}

// forget removes a session, unless it listens elsewhere by now.
func (r *Relay) forget(s *standing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[s.number] == s {
		delete(r.sessions, s.number)
	}
	s.verifier = [32]byte{}
}

// listen makes this relay the gateway of a session, if the session itself
// asks for that on this very circuit.
func (e *farEnd) listen(f *frame) error {
	l, err := wire.ParseListen(f.data)
	if err != nil {
		return err
	}
	if !e.fresh(f.h.Stream) {
		return errProtocol
	}
	r := e.c.r
	if l.Verify(r.cfg.NetworkName, r.id, e.c.hash) != nil {
		if err := e.unknown(); err != nil { // each costs as much as ten frames
			return err
		}
		return e.say(f.h.Stream, wire.CmdReset, []byte{byte(wire.ReasonRefused)})
	}
	s := &standing{
		far: e, number: l.Keys.Number(), verifier: l.Verifier, effort: l.Effort,
		joins: rate.NewLimiter(r.limits.Joins, max(1, int(4*r.limits.Joins))),
	}
	e.mu.Lock()
	full := e.closed || e.listens != nil // path and session live and die together
	if !full {
		e.listens = s
	}
	e.mu.Unlock()
	if full {
		return e.say(f.h.Stream, wire.CmdReset, []byte{byte(wire.ReasonRefused)})
	}
	r.mu.Lock()
	r.sessions[s.number] = s
	r.mu.Unlock()
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed { // it may have looked before the session was there
		r.forget(s)
	}
	return e.say(f.h.Stream, wire.CmdListening, nil)
}

// say queues one control cell for a stream that is none of the spliced ones.
func (e *farEnd) say(id uint32, cmd wire.Command, data []byte) error {
	f := e.control(cmd, id, data)
	f.h = wire.Header{Cmd: cmd, Len: len(data), Stream: id}
	h := &half{far: e, id: id}
	e.mu.Lock()
	tooMany := len(e.ready) > 2*e.c.r.limits.Streams // he asks and does not read
	e.mu.Unlock()
	if tooMany {
		f.free()
		return errProtocol
	}
	h.push(f)
	return nil
}

// join splices a stream of this circuit to a new one of the session's.
// Whatever is wrong, the refusal is the same.
func (e *farEnd) join(f *frame) error {
	j, err := wire.ParseJoin(f.data)
	if err != nil {
		return err
	}
	id := f.h.Stream
	if !e.fresh(id) {
		return errProtocol
	}
	if !e.c.nb.opens.Allow() {
		return e.say(id, wire.CmdReset, []byte{byte(wire.ReasonRefused)})
	}
	switch ok, effort := e.splice(id, j); {
	case ok:
		return nil
	case effort > 0:
		return e.pose(id, j.Number, effort)
	}
	return e.say(id, wire.CmdReset, []byte{byte(wire.ReasonRefused)})
}

// splice does what JOIN asks for, or tells how much work it costs, or neither.
func (e *farEnd) splice(id uint32, j wire.Join) (ok bool, effort byte) {
	r := e.c.r
	r.mu.Lock()
	s := r.sessions[j.Number]
	var verifier [32]byte
	if s != nil {
		verifier = s.verifier
	}
	r.mu.Unlock()
	mac := wire.JoinMAC(verifier, e.c.hash, j.Number)
	if subtle.ConstantTimeCompare(mac[:], j.MAC[:]) != 1 || s == nil || s.far == e {
		return false, 0
	}
	if !e.spend(j.Number) {
		if effort := s.demand(); effort > 0 {
			return false, effort
		}
	}
	if !s.joins.Allow() {
		return false, 0
	}
	a := &half{far: e, id: id, credit: wire.InitialWindow}
	b := &half{far: s.far, credit: wire.InitialWindow, unsaid: true}
	a.peer, b.peer = b, a
	if !a.enter(nil) {
		return false, 0
	}
	f := r.pool.get()
	f.h = wire.Header{Cmd: wire.CmdOpen, Len: len(j.Msg)}
	copy(f.b[wire.TagSize+wire.HeaderSize:], j.Msg)
	f.pad(wire.TagSize, len(j.Msg))
	if !b.enter(f) {
		f.free()
		a.vanish()
		return false, 0
	}
	return true, 0
}

// enter makes a half known to its far end. A half without an id gets the next
// one, and its first cell is queued with that: ids go out in ascending order.
func (h *half) enter(first *frame) bool {
	e := h.far
	r := e.c.r
	if !r.mayOpen(e) {
		return false
	}
	defer e.c.waits()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || h.gone || len(e.streams) >= r.limits.Streams {
		r.streams.Add(-1)
		return false
	}
	if first != nil {
		h.id = e.next
		e.next += 2
		h.queueLocked(first)
	}
	e.addLocked(h)
	return true
}
