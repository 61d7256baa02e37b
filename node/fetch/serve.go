package fetch

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"wanderfs/cache/chunk"
)

// Blocks gives the blocks that a session shares. Block returns bytes that it
// has just verified, or an error, whatever the reason, for all that the
// session does not share. It is called from many goroutines at once; the
// slice is not written to.
type Blocks interface {
	Block(ctx context.Context, r chunk.Ref) ([]byte, error)
}

// Server serves blocks to readers within limits that all its connections
// share. The zero value of each field is its default. Do not change the fields
// once Serve was called.
type Server struct {
	Blocks   Blocks
	Requests int           // gets waiting in a connection; default 1024
	Ahead    int           // blocks loaded ahead in a connection; default 4
	Loads    int           // blocks being loaded at once by all connections; default 16
	Held     int           // blocks in memory for all connections; default 64
	Miss     time.Duration // when "not held" is said, after the request came; default 50 ms
	Patience time.Duration // a reader that takes nothing for so long is left; default 2 min

	once  sync.Once
	loads *semaphore.Weighted // first come, first served
	held  *held
}

// errStalledReader says that a reader takes nothing while others wait for the
// memory that it keeps.
var errStalledReader = errors.New("reader takes nothing")

// Serve serves blocks on conn until conn or ctx ends, and closes conn. first
// holds the bytes that came with the handshake: they stand before those of
// conn. It returns nil when the reader closed, ErrProtocol when it talked
// nonsense.
func (s *Server) Serve(ctx context.Context, conn io.ReadWriteCloser, first []byte) error {
	return s.ServeUntil(ctx, conn, first, nil)
}

// ServeUntil is Serve that tells the reader when leave is closed: the session
// ends soon, and a successor can be found.
func (s *Server) ServeUntil(ctx context.Context, conn io.ReadWriteCloser, first []byte, leave <-chan struct{}) error {
	s.once.Do(func() {
		s.Requests = orDefault(s.Requests, 1024)
		s.Ahead = orDefault(s.Ahead, 4)
		s.Loads = orDefault(s.Loads, 16)
		s.Miss = orDefault(s.Miss, 50*time.Millisecond)
		s.Patience = orDefault(s.Patience, 2*time.Minute)
		s.Held = orDefault(s.Held, 64)
		s.loads = semaphore.NewWeighted(int64(s.Loads))
		s.held = newHeld(s.Held)
	})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	v := &serving{
		Server: s,
		conn:   conn,
		leave:  leave,
		wait:   make(map[uint32]*job),
		jobs:   make(chan *job, s.Requests),
		loaded: make(chan *job, s.Ahead),
		slots:  make(chan struct{}, s.Ahead),
		end:    cancel,
	}
	s.held.join(v)
	defer s.held.leave(v)
	// Closing the connection is what ends a blocked Read or Write.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(v.jobs)
		if err := v.read(ctx, first); err != nil {
			cancel(err)
		}
	})
	wg.Go(func() {
		defer close(v.loaded)
		v.load(ctx)
	})
	err := v.write(ctx)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(err)
	conn.Close()
	wg.Wait()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func orDefault[T int | int64 | time.Duration](v, d T) T {
	if v <= 0 {
		return d
	}
	return v
}

// serving is one connection of a Server. Requests go from read through load,
// which keeps a few blocks ahead, to write, in order.
type serving struct {
	*Server
	conn   io.ReadWriteCloser
	leave  <-chan struct{} // nil when it was told
	mu     sync.Mutex
	wait   map[uint32]*job // gets not yet begun, by tag; guarded by mu
	jobs   chan *job       // closed by read
	loaded chan *job       // closed by load
	slots  chan struct{}   // one for each block in memory

	kept    atomic.Int64            // of Server.held
	writing atomic.Int64            // when the write that waits began, in Unix nanoseconds; 0: none
	end     context.CancelCauseFunc // ends the connection
}

// job is one get on its way through a serving.
type job struct {
	request
	at        time.Time // when it came
	cancelled bool      // guarded by serving.mu
	block     *loading  // nil when cancelled
}

// loading is one block being loaded, for one or more jobs in a row.
type loading struct {
	ref  chunk.Ref
	jobs int // not yet written; guarded by serving.mu
	done chan struct{}
	data []byte
	err  error
}

// read takes requests in until the reader closes its half (nil), or fails.
func (v *serving) read(ctx context.Context, first []byte) error {
	if len(first)%RequestSize != 0 || len(first) > MaxFirst {
		return ErrProtocol
	}
	for len(first) > 0 {
		if err := v.take(ctx, first[:RequestSize]); err != nil {
			return err
		}
		first = first[RequestSize:]
	}
	in := bufio.NewReaderSize(v.conn, 16<<10)
	var b [RequestSize]byte
	for {
		switch _, err := io.ReadFull(in, b[:]); {
		case err == io.EOF:
			return nil
		case err == io.ErrUnexpectedEOF:
			return ErrProtocol
		case err != nil:
			return err
		}
		if err := v.take(ctx, b[:]); err != nil {
			return err
		}
	}
}

func (v *serving) take(ctx context.Context, b []byte) error {
	q, err := parseRequest(b)
	if err != nil {
		return err
	}
	v.mu.Lock()
	j := v.wait[q.Tag]
	switch {
	case q.Kind == kindCancel:
		if j != nil && j.Ref == q.Ref {
			j.cancelled = true
		}
		v.mu.Unlock()
		return nil
	case j != nil:
		v.mu.Unlock()
		return ErrProtocol // two gets of one tag
	}
	j = &job{request: q, at: time.Now()}
	v.wait[q.Tag] = j
	v.mu.Unlock()
	select {
	case v.jobs <- j:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// load starts loading blocks in order, as many as there are slots. Ranges of
// one block that follow each other share one loading.
func (v *serving) load(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	var last *loading
	for j := range v.jobs {
		v.mu.Lock()
		dropped := j.cancelled
		shared := !dropped && last != nil && last.ref == j.Ref && last.jobs > 0
		if shared {
			last.jobs++
			j.block = last
		}
		v.mu.Unlock()
		if !dropped && !shared {
			select {
			case v.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			if v.held.take(ctx) != nil {
				return
			}
			l := &loading{ref: j.Ref, jobs: 1, done: make(chan struct{})}
			v.kept.Add(1)
			last, j.block = l, l
			wg.Go(func() {
				defer close(l.done)
				if l.err = v.loads.Acquire(ctx, 1); l.err != nil {
					return
				}
				defer v.loads.Release(1)
				l.data, l.err = v.Blocks.Block(ctx, l.ref)
				if l.err == nil && len(l.data) > chunk.MaxBlock {
					l.err = chunk.ErrMismatch
				}
			})
		}
		select {
		case v.loaded <- j:
		case <-ctx.Done():
			return
		}
	}
}

// write answers in order until there are no more jobs.
func (v *serving) write(ctx context.Context) error {
	// Headers and small ranges share writes; the greater part of a block goes
	// to the connection without a copy.
	out := bufio.NewWriterSize(&patientWriter{v.conn, v.Patience, &v.writing}, 64<<10)
	var h [AnswerSize]byte
	for {
		var j *job
		var ok bool
		select {
		case j, ok = <-v.loaded:
		default:
			if err := out.Flush(); err != nil {
				return err
			}
			select {
			case j, ok = <-v.loaded:
			case <-v.leave:
				if err := v.sayLeaving(out); err != nil {
					return err
				}
				continue
			}
		}
		if !ok {
			return out.Flush()
		}
		a := answer{Tag: j.Tag}
		var data []byte
		if j.block == nil {
			a.Status = statusCancelled
		} else {
			if err := v.await(ctx, j, out); err != nil {
				return err
			}
			data, a = j.answer()
		}
		v.mu.Lock()
		if j.cancelled {
			a, data = answer{Tag: j.Tag, Status: statusCancelled}, nil
		}
		delete(v.wait, j.Tag)
		v.mu.Unlock()
		select {
		case <-v.leave:
			if err := v.sayLeaving(out); err != nil {
				return err
			}
		default:
		}
		if _, err := out.Write(appendAnswer(h[:0], a)); err != nil {
			return err
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
		v.release(j)
	}
}

// sayLeaving tells the reader, once.
func (v *serving) sayLeaving(out io.Writer) error {
	v.leave = nil
	_, err := out.Write(appendAnswer(nil, answer{Status: statusLeaving}))
	return err
}

// await returns when j's answer may be said. Answers that wait in out are sent
// before a wait. What is not held is said at a time that does not tell why.
func (v *serving) await(ctx context.Context, j *job, out *bufio.Writer) error {
	select {
	case <-j.block.done:
	default:
		if err := out.Flush(); err != nil {
			return err
		}
		<-j.block.done // ends with ctx: loads end then
	}
	if j.block.err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	took := time.Since(j.at)
	rest := v.Miss - took%v.Miss
	if took > 0 && took%v.Miss == 0 {
		return nil
	}
	if err := out.Flush(); err != nil {
		return err
	}
	t := time.NewTimer(rest)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// answer returns the header and data for a job whose block is loaded.
func (j *job) answer() ([]byte, answer) {
	if j.block.err != nil {
		return nil, answer{Status: statusNotHeld, Tag: j.Tag}
	}
	data := j.block.data
	off, n := j.clip(len(data))
	return data[off : off+n], answer{Status: statusData, Tag: j.Tag, Length: uint32(n), Total: uint32(len(data))}
}

// release frees the slot of j's block after its last job.
func (v *serving) release(j *job) {
	if j.block == nil {
		return
	}
	v.mu.Lock()
	j.block.jobs--
	last := j.block.jobs == 0
	v.mu.Unlock()
	if last {
		<-v.slots
		v.kept.Add(-1)
		v.held.give()
	}
}

// patientWriter writes in pieces and gives up when one of them takes too
// long, if the connection knows deadlines.
type patientWriter struct {
	w        io.Writer
	patience time.Duration
	since    *atomic.Int64 // see serving.writing
}

func (w *patientWriter) Write(p []byte) (int, error) {
	d, ok := w.w.(interface{ SetWriteDeadline(time.Time) error })
	defer w.since.Store(0)
	n := 0
	for n < len(p) {
		now := time.Now()
		w.since.Store(now.UnixNano())
		if ok {
			_ = d.SetWriteDeadline(now.Add(w.patience)) // best effort: ctx ends it anyway
		}
		m, err := w.w.Write(p[n:min(len(p), n+256<<10)])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
