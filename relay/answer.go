package relay

import (
	"time"

	"wanderfs/relay/wire"
)

// asking is a request that is still coming in.
type asking struct {
	total   int
	got     int
	b       []byte
	refused bool  // too many: nothing is kept
	frames  int64 // taken from Relay.pool: as many as b would fill
	kept          // since the first byte
}

// add takes a piece.
func (a *asking) add(b []byte) {
	a.got += len(b)
	if !a.refused {
		a.b = append(a.b, b...)
	}
}

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
		if busy || !e.fresh(id) {
			return errProtocol // a builder of ours asks less
		}
		a = &asking{total: total, refused: !e.c.nb.queries.Allow()}
		a.add(rest)
		e.mu.Lock()
		e.asks++
		e.asking[id] = a
		e.mu.Unlock()
	} else {
		if len(f.data) == 0 || a.got+len(f.data) > a.total {
			return errProtocol
		}
		a.add(f.data)
	}
	r := e.c.r
	e.mu.Lock()
	if e.closed { // and has given back what was counted
		e.mu.Unlock()
		return errProtocol
	}
	full := false
	if more := int64(len(a.b)+wire.FrameSize-1)/wire.FrameSize - a.frames; more > 0 {
		if a.frames == 0 {
			e.ages.add(&a.kept, time.Now().UnixNano(), nil)
		}
		a.frames += more
		full = r.pool.take(more)
	}
	whole := a.got == a.total
	if whole {
		delete(e.asking, id)
		e.ages.remove(&a.kept)
	}
	e.mu.Unlock()
	e.c.waits()
	if full {
		r.relieve()
	}
	if !whole {
		return nil
	}
	e.c.wg.Go(func() {
		defer r.pool.give(a.frames)
		e.answer(id, a)
	})
	return nil
}

// answer asks whom this relay knows and queues the answer.
func (e *farEnd) answer(id uint32, a *asking) {
	status, b := wire.StatusRefused, []byte(nil)
	if far := e.c.r.cfg.Far; far != nil && !a.refused {
		var err error
		status = wire.StatusOK
		if b, err = far.Answer(e.c.ctx, a.b); err != nil || len(b) > wire.MaxAsk {
			status, b = wire.StatusFailed, nil
		}
	}
	head := wire.AppendAnswer(nil, status, len(b))
	h := &half{far: e, id: id, answer: (len(head) + len(b) + wire.MaxData - 1) / wire.MaxData}
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
}
