package relay

import (
	"errors"

	"wanderfs/relay/wire"
)

// asking is a request that is still coming in.
type asking struct {
	total int
	b     []byte
	cells int64 // taken from Relay.pool
}

var errNoRoom = errors.New("no room for a request")

// ask takes a piece of a request, and starts the answer when it is whole.
func (e *farEnd) ask(f *frame) error {
	id := f.h.Stream
	e.mu.Lock()
	a := e.asking[id]
	busy := e.asks >= e.c.r.limits.Asks
	e.mu.Unlock()
	if a == nil {
		total, rest, err := wire.ParseAsk(f.data)
		if err != nil {
			return err
		}
		if busy {
			return errProtocol // a builder of ours asks less
		}
		a = &asking{total: total, b: append(make([]byte, 0, len(rest)), rest...)}
		e.mu.Lock()
		e.asks++
		e.asking[id] = a
		e.mu.Unlock()
	} else {
		if len(f.data) == 0 || len(a.b)+len(f.data) > a.total {
			return errProtocol
		}
		a.b = append(a.b, f.data...)
	}
	r := e.c.r
	e.mu.Lock()
	if e.closed { // and has given back what was counted
		e.mu.Unlock()
		return errProtocol
	}
	a.cells++
	full := r.pool.take(1)
	whole := len(a.b) == a.total
	if whole {
		delete(e.asking, id)
	}
	e.mu.Unlock()
	switch {
	case whole:
	case full:
		return errNoRoom
	default:
		return nil
	}
	e.c.wg.Go(func() {
		defer r.pool.give(a.cells)
		e.answer(id, a.b)
	})
	return nil
}

// answer asks whom this relay knows and queues the answer.
func (e *farEnd) answer(id uint32, req []byte) {
	status, b := wire.StatusRefused, []byte(nil)
	if far := e.c.r.cfg.Far; far != nil {
		var err error
		status = wire.StatusOK
		if b, err = far.Answer(e.c.ctx, req); err != nil || len(b) > wire.MaxAsk {
			status, b = wire.StatusFailed, nil
		}
	}
	h := &half{far: e, id: id}
	head := wire.AppendAnswer(nil, status, len(b))
	for first := true; first || len(b) > 0; first = false {
		f := e.c.r.pool.get()
		data := f.b[wire.TagSize+wire.HeaderSize : wire.TagSize+wire.HeaderSize+wire.MaxData]
		n := copy(data, head)
		head = nil
		m := copy(data[n:], b)
		b = b[m:]
		f.h = wire.Header{Cmd: wire.CmdAnswer, Len: n + m}
		f.pad(wire.TagSize, n+m)
		h.push(f)
	}
	e.mu.Lock()
	e.asks--
	e.mu.Unlock()
}
