package relay

import (
	"io"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// frame is the buffer of one frame. A frame begins at some offset, a multiple
// of 16: each layer that is opened, or was sealed inside, moves it by 16, so
// that nothing is copied. There is room for wire.MaxHops layers and for the
// tag that Go's GCM wants at the end, and before it for a link's header.
type frame struct {
	off  int   // where the cell begins; set by those who queue frames
	of   *pool // counts it until it is freed; nil: nobody does
	kept       // at a far end
	data []byte
	h    wire.Header
	b    []byte // mem from where offset 0 is
	mem  [frameRoom + wire.FrameSize + wire.TagSize*wire.MaxHops]byte
}

// frameRoom is how many bytes lie before a frame that a link has read: its
// offset, and room for the header of the link that it goes out on.
const frameRoom = LinkRoom + wire.TagSize

var frames = sync.Pool{New: func() any { // buffers only
	f := new(frame)
	f.b = f.mem[frameRoom:]
	return f
}}

func newFrame() *frame { return frames.Get().(*frame) }

func (f *frame) free() {
	if f.of != nil {
		f.of.give(1)
	}
	f.off, f.of, f.kept, f.data, f.h, f.b = 0, nil, kept{}, nil, wire.Header{}, f.mem[frameRoom:]
	frames.Put(f)
}

// Buffer holds a frame that a link has read. It is not safe for concurrent use.
type Buffer frame

// NewBuffer gives a buffer with anything in it.
func NewBuffer() *Buffer { return (*Buffer)(newFrame()) }

// Bytes are wire.FrameSize bytes, valid until Free.
func (b *Buffer) Bytes() []byte { return b.mem[frameRoom : frameRoom+wire.FrameSize] }

// Free gives the buffer back. Nothing may use it any more.
func (b *Buffer) Free() { (*frame)(b).free() }

// cell gives the cell at off.
func (f *frame) cell(off int) []byte { return f.b[off : off+wire.CellSize] }

// pad zeroes a cell's bytes behind its data.
func (f *frame) pad(off, n int) { clear(f.b[off+wire.HeaderSize+n : off+wire.CellSize]) }

const deadlineStep = 4 * time.Second // ours; how often deadlines are moved

// stream reads and writes whole frames on a link, and moves its deadlines
// along, rarely, because a timer for each frame costs too much. A read waits
// at most idle, a write without progress at most stall (0: for ever).
type stream struct {
	Link
	idle, stall time.Duration
	pool        *pool   // of the frames that are read; nil: no bound
	reads       *moving // nil: nobody looks
	writes      *moving // the same
	rset, wset  time.Time
	had         int // bytes of head that are there
	head        [sips]byte
}

// count lets what the link holds unread count in the pool, for c.
func (s *stream) count(c *circuit) {
	if l, ok := s.Link.(FrameLink); ok {
		l.Count(room{s.pool, c})
	}
}

// readFrame reads a frame to offset off of a buffer that it takes from the
// pool only when the first bytes are there.
func (s *stream) readFrame(off int) (*frame, error) {
	if s.idle > 0 {
		if now := time.Now(); now.Sub(s.rset) > min(deadlineStep, s.idle/4) {
			s.rset = now
			s.SetReadDeadline(now.Add(s.idle))
		}
	}
	if l, ok := s.Link.(FrameLink); ok && s.had == 0 {
		if b, err := l.ReadFrame(); b != nil || err != nil {
			return s.take(b, off), err
		}
	}
	if _, err := io.ReadFull(s.Link, s.head[s.had:]); err != nil {
		return nil, err
	}
	s.had = 0
	f := s.pool.get()
	copy(f.b[off:], s.head[:])
	if s.reads != nil {
		s.reads.begin(time.Now())
		defer s.reads.end()
	}
	if _, err := io.ReadFull(s.Link, f.b[off+len(s.head):off+wire.FrameSize]); err != nil {
		f.free()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return f, nil
}

// take makes a frame at offset off, at most wire.TagSize, of what a link has
// read, without copying it.
func (s *stream) take(b *Buffer, off int) *frame {
	if b == nil {
		return nil
	}
	f := (*frame)(b)
	f.b = f.mem[frameRoom-off:]
	s.pool.add(f)
	return f
}

// writeFrame writes the frame at off. It keeps no hold of f.
func (s *stream) writeFrame(f *frame, off int) error {
	if s.stall > 0 {
		now := time.Now()
		if now.Sub(s.wset) > min(deadlineStep, s.stall/4) {
			s.wset = now
			s.SetWriteDeadline(now.Add(s.stall))
		}
		s.writes.begin(now)
	}
	var err error
	if l, ok := s.Link.(FrameLink); ok {
		off += len(f.mem) - len(f.b) - LinkRoom
		err = l.WriteFrame(f.mem[off : off+LinkRoom+wire.FrameSize])
	} else {
		_, err = s.Link.Write(f.b[off : off+wire.FrameSize])
	}
	s.writes.end()
	return err
}
