package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"wanderfs/relay/wire"
)

// Path is a circuit of one's own, from its builder's side. All methods are
// safe for concurrent use. The first error anywhere ends all of it.
type Path struct {
	b       *Builder
	link    stream
	last    wire.NodeID // the far end
	hash    [32]byte    // of the handshake with it
	hops    int
	created time.Time
	ctx     context.Context // ends with the path
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup
	freed   chan struct{} // closed when all goroutines have gone

	writing chan struct{} // holds one token; who has it may seal and write
	out     outward       // guarded by writing
	in      inward        // used by build, then by read
	turning atomic.Bool   // out has turned, read is to know
	settled atomic.Bool   // in has followed

	mu      sync.Mutex
	streams map[uint32]receiver // guarded by mu
	next    uint32              // next stream id of ours, odd; guarded by mu
	budget  int                 // cells for unknown streams; guarded by mu
	hear    *Listener           // guarded by mu
	newest  uint32              // stream that the gateway opened last; guarded by mu

	opening  chan struct{} // one token; who has it opens a stream
	solving  chan struct{} // one token; who has it works for a Join
	asks     chan struct{} // one token for each request that is out
	life     life
	nIn      atomic.Uint64
	nOut     atomic.Uint64
	refusing atomic.Int32 // goroutines of refuse
	arrived  atomic.Int64 // cells of its streams that wait to be read
	spoken   atomic.Bool  // a stream has written
}

// receiver is a stream of a path as the reading goroutine sees it.
type receiver interface {
	// cell takes a cell and its frame. An error ends the path. It must not
	// wait.
	cell(f *frame) error
	// fail is called at most once, when the path ends.
	fail(err error)
}

func newPath(b *Builder, hops []wire.Descriptor) *Path {
	p := &Path{
		b: b, last: hops[len(hops)-1].Node, hops: len(hops), created: b.Now(),
		streams: map[uint32]receiver{}, next: 1,
		writing: make(chan struct{}, 1), asks: make(chan struct{}, 8), solving: make(chan struct{}, 1), opening: make(chan struct{}, 1), freed: make(chan struct{}),
		out: *newOutward(),
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.life.init(b)
	return p
}

// abandon frees a path that was not built.
func (p *Path) abandon() {
	p.cancel(ErrClosed)
	if p.link.Link != nil {
		p.link.Reset()
	}
	p.erase()
	close(p.freed)
}

// start begins to read, and to look for signs of life.
func (p *Path) start() {
	p.life.init(p.b)
	p.settled.Store(true)
	p.wg.Go(p.read)
	p.wg.Go(p.watch)
	p.wg.Go(p.pings)
	go func() { // ends after those above, which end with the path
		p.wg.Wait()
		p.erase()
		close(p.freed)
	}()
}

// erase drops the keys, when nobody writes or reads any more.
func (p *Path) erase() {
	p.writing <- struct{}{}
	defer func() { <-p.writing }()
	for i := range p.out.hops {
		p.out.hops[i].erase()
		p.in.hops[i].erase()
	}
	p.out.hops, p.in.hops, p.out.pad = nil, nil, nil
}

// lock takes the right to write; false if the path is over.
func (p *Path) lock() bool {
	select {
	case p.writing <- struct{}{}:
	case <-p.ctx.Done():
		return false
	}
	if p.ctx.Err() != nil {
		<-p.writing
		return false
	}
	return true
}

func (p *Path) unlock() { <-p.writing }

// off is where cells lie in frames for sendFrame, once the path is built.
func (p *Path) off() int { return wire.TagSize * p.hops }

// sendFrame seals and writes the cell at off; h and the data are in place, the
// padding too. It does not free f.
func (p *Path) sendFrame(f *frame) error {
	if !p.lock() {
		return p.Err()
	}
	defer p.unlock()
	return p.writeLocked(f)
}

func (p *Path) writeLocked(f *frame) error {
	if p.out.due(p.b.Turn) && p.settled.CompareAndSwap(true, false) {
		p.turning.Store(true) // before a relay can see the frame
		p.out.turn()
	}
	err := p.out.seal(f)
	began := time.Now()
	if err == nil {
		err = p.link.writeFrame(f, 0)
	}
	if err != nil {
		p.end(fmt.Errorf("write: %w", err))
		return err
	}
	p.nOut.Add(wire.FrameSize)
	p.life.wrote(time.Since(began))
	return nil
}

// send sends a small cell.
func (p *Path) send(cmd wire.Command, id uint32, data []byte) error {
	f := newFrame()
	defer f.free()
	if !p.lock() {
		return p.Err()
	}
	defer p.unlock()
	off := p.off()
	wire.Header{Cmd: cmd, Len: len(data), Stream: id}.Put(f.cell(off))
	copy(f.b[off+wire.HeaderSize:], data)
	f.pad(off, len(data))
	return p.writeLocked(f)
}

// receive reads one frame and opens all layers.
func (p *Path) receive() (*frame, error) {
	f, err := p.link.readFrame(0)
	if err != nil {
		return nil, err
	}
	p.nIn.Add(wire.FrameSize)
	if p.turning.CompareAndSwap(true, false) {
		p.in.turn()
	}
	waits := p.in.waits > 0
	off, err := p.in.open(f)
	if waits && p.in.waits == 0 {
		p.settled.Store(true)
	}
	if err == nil {
		f.off = off
		f.h, f.data, err = wire.ParseCell(f.cell(off))
	}
	if err != nil {
		f.free()
		return nil, err
	}
	return f, nil
}

// read hands cells to their streams until the path ends.
func (p *Path) read() {
	for {
		f, err := p.receive()
		if err == nil {
			p.life.heard(f.h.Cmd)
			err = p.dispatch(f)
		}
		if err != nil {
			if err == io.EOF {
				err = ErrDead
			}
			p.end(fmt.Errorf("read: %w", err))
			return
		}
	}
}

func (p *Path) dispatch(f *frame) error {
	switch f.h.Cmd {
	case wire.CmdPong:
		token, err := wire.ParsePing(f.data)
		id := f.h.Stream
		f.free()
		if err != nil {
			return err
		}
		if id != 0 {
			return errProtocol
		}
		return p.life.pong(token)
	case wire.CmdOpen:
		return p.opened(f)
	}
	p.mu.Lock()
	s := p.streams[f.h.Stream]
	if s == nil {
		p.budget--
		spent := p.budget < 0
		p.mu.Unlock()
		f.free()
		if spent {
			return errProtocol
		}
		return nil
	}
	p.mu.Unlock()
	return s.cell(f)
}

// spawn starts a goroutine that ends with the path; false if that is over.
func (p *Path) spawn(fn func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return false
	}
	p.wg.Go(fn) // read is still counted, so Wait cannot have returned
	return true
}

// refuse resets a stream that a gateway opened, without making the reading
// goroutine wait; when too many are under way it does nothing.
func (p *Path) refuse(id uint32) {
	if p.refusing.Add(1) > 16 || !p.spawn(func() {
		defer p.refusing.Add(-1)
		p.spoken.Store(true)
		p.send(wire.CmdReset, id, []byte{byte(wire.ReasonRefused)})
	}) {
		p.refusing.Add(-1)
	}
}

// open makes a stream of ours known, and sends its first cell before another
// stream's: ids go out in ascending order. SPEC.md §7
func (p *Path) open(s receiver, id *uint32, send func() error) error {
	select {
	case p.opening <- struct{}{}:
	case <-p.ctx.Done():
		return p.Err()
	}
	defer func() { <-p.opening }()
	if err := p.add(s, id); err != nil {
		return err
	}
	return send()
}

// add makes a stream of ours known, after it has set its id.
func (p *Path) add(s receiver, id *uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return p.Err()
	}
	*id = p.next
	p.next += 2
	p.streams[*id] = s
	return nil
}

// remove forgets a stream; up to late cells may still come for it.
func (p *Path) remove(id uint32, s receiver, late int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.streams[id] == s {
		delete(p.streams, id)
		p.budget += late
	}
}

// end ends the path and everything on it, once.
func (p *Path) end(err error) {
	p.mu.Lock()
	if p.ctx.Err() != nil {
		p.mu.Unlock()
		return
	}
	p.cancel(err)
	streams, hear := p.streams, p.hear
	p.streams = nil
	p.mu.Unlock()
	if p.b.leaky.ends && err == ErrClosed {
		p.link.Close()
	} else {
		p.link.Reset()
	}
	for _, s := range streams {
		s.fail(err)
	}
	if hear != nil {
		hear.fail(err)
	}
}

// Done is closed when the path is over.
func (p *Path) Done() <-chan struct{} { return p.ctx.Done() }

// Err says why the path is over; nil while it lives.
func (p *Path) Err() error {
	if p.ctx.Err() == nil {
		return nil
	}
	err := context.Cause(p.ctx)
	if errors.Is(err, ErrClosed) {
		return ErrClosed
	}
	return fmt.Errorf("path is over: %w", err)
}

// closeWait is how long Close waits at most for the far end to have what was
// written.
const closeWait = 5 * time.Second // ours; any value works

// Close ends the path and all its streams, waits for its goroutines and
// erases its keys. What streams wrote before still arrives, if the path carries
// it in the time that a sign of life may take: resets drop what is on its way.
// It may be called twice.
func (p *Path) Close() error {
	p.flush()
	p.end(ErrClosed)
	<-p.freed
	return nil
}

// Reset ends the path and all its streams at once: what is on its way is lost.
// It is for paths that are of no use; Close waits for the rest.
func (p *Path) Reset() { p.end(ErrClosed) }

// Overdue reports whether the far end owes a sign of life for longer than it
// should: the path may be about to be dead, or was when it ended.
func (p *Path) Overdue() bool { return p.life.overdue(p.b.Dead) }

// Hops is how many relays the path has.
func (p *Path) Hops() int { return p.hops }

// Traffic gives the bytes of the frames that came in and went out.
func (p *Path) Traffic() (in, out uint64) { return p.nIn.Load(), p.nOut.Load() }

// Created is when the path was begun.
func (p *Path) Created() time.Time { return p.created }
