package relay

import (
	"context"
	"fmt"
	"sync"

	"wanderfs/relay/wire"
)

// question is a request that is out.
type question struct {
	p     *Path
	id    uint32
	begun bool
	total int
	b     []byte

	once sync.Once
	done chan struct{} // closed by finish
	err  error         // after done
}

// Ask sends a request to the far end and waits for the answer. Both are at
// most wire.MaxAsk bytes. ErrRefused and ErrFailed come from the far end. At
// most 8 requests are out at a time on a path, others wait.
func (p *Path) Ask(ctx context.Context, req []byte) ([]byte, error) {
	if len(req) > wire.MaxAsk {
		return nil, fmt.Errorf("ask: %d bytes are too long", len(req))
	}
	select {
	case p.asks <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.Done():
		return nil, p.Err()
	}
	q := &question{p: p, done: make(chan struct{})}
	p.life.active()
	head := wire.AppendAsk(nil, len(req))
	err := p.open(q, &q.id, func() (err error) { req, err = q.send(head, req); return err })
	if q.id == 0 {
		<-p.asks
	}
	for err == nil && len(req) > 0 {
		req, err = q.send(nil, req)
	}
	if err != nil {
		return nil, err // the path is over
	}
	select {
	case <-q.done:
		if q.err != nil {
			return nil, fmt.Errorf("ask: %w", q.err)
		}
		return q.b, nil
	case <-ctx.Done():
		return nil, ctx.Err() // the answer is still read, and then dropped
	}
}

// send sends one cell, and gives what is left of req.
func (q *question) send(head, req []byte) ([]byte, error) {
	f := newFrame()
	defer f.free()
	off := q.p.off()
	data := f.b[off+wire.HeaderSize : off+wire.HeaderSize+wire.MaxData]
	n := copy(data, head)
	m := copy(data[n:], req)
	wire.Header{Cmd: wire.CmdAsk, Len: n + m, Stream: q.id}.Put(f.cell(off))
	f.pad(off, n+m)
	return req[m:], q.p.sendFrame(f)
}

func (q *question) cell(f *frame) error {
	defer f.free()
	if f.h.Cmd != wire.CmdAnswer {
		return errProtocol
	}
	data := f.data
	if !q.begun {
		s, total, rest, err := wire.ParseAnswer(data)
		if err != nil {
			return err
		}
		switch s {
		case wire.StatusRefused:
			q.finish(ErrRefused)
			return nil
		case wire.StatusFailed:
			q.finish(ErrFailed)
			return nil
		}
		q.begun, q.total, data = true, total, rest
	} else if len(data) == 0 || len(q.b)+len(data) > q.total {
		return errProtocol
	}
	q.b = append(q.b, data...)
	if len(q.b) == q.total {
		q.finish(nil)
	}
	return nil
}

func (q *question) fail(err error) { q.finish(err) }

func (q *question) finish(err error) {
	q.once.Do(func() {
		q.p.remove(q.id, q, 0)
		q.err = err
		close(q.done)
		<-q.p.asks
	})
}
