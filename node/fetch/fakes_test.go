package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

var errFake = errors.New("fake fails")

// half is one direction of a fake connection: bytes arrive after a latency, at
// a rate, in order.
type half struct {
	mu      sync.Mutex
	cond    *sync.Cond
	latency time.Duration
	rate    float64 // bytes/s; 0 is no limit
	free    time.Time
	queue   []parcel
	held    int
	frozen  bool
	cut     int // bytes until the connection dies; 0 is never
	passed  int64
	err     error // set when closed
}

type parcel struct {
	at time.Time
	b  []byte
}

const halfWindow = 16 << 20

func newHalf(latency time.Duration, rate float64) *half {
	h := &half{latency: latency, rate: rate}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (h *half) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(p) {
		for h.held >= halfWindow && h.err == nil {
			h.cond.Wait()
		}
		if h.err != nil {
			return n, io.ErrClosedPipe
		}
		piece := p[n:min(len(p), n+16<<10)]
		now := time.Now()
		if h.free.Before(now) {
			h.free = now
		}
		if h.rate > 0 {
			h.free = h.free.Add(time.Duration(float64(len(piece)) / h.rate * 1e9))
		}
		h.queue = append(h.queue, parcel{h.free.Add(h.latency), bytes.Clone(piece)})
		h.held += len(piece)
		n += len(piece)
		h.cond.Broadcast()
	}
	return n, nil
}

func (h *half) Read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if h.err != nil && (h.err != io.EOF || len(h.queue) == 0) {
			return 0, h.err
		}
		if len(h.queue) > 0 && !h.frozen {
			q := &h.queue[0]
			if wait := time.Until(q.at); wait > 0 {
				h.mu.Unlock()
				time.Sleep(wait)
				h.mu.Lock()
				continue
			}
			n := copy(p, q.b)
			if q.b = q.b[n:]; len(q.b) == 0 {
				h.queue = h.queue[1:]
			}
			h.held -= n
			h.passed += int64(n)
			if h.cut > 0 {
				if h.cut -= n; h.cut <= 0 {
					h.err = io.ErrUnexpectedEOF
				}
			}
			h.cond.Broadcast()
			return n, nil
		}
		h.cond.Wait()
	}
}

func (h *half) close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil || h.err == io.EOF {
		h.err = err
	}
	h.cond.Broadcast()
}

func (h *half) freeze(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frozen = on
	h.cond.Broadcast()
}

// fakeConn is one end of two halves.
type fakeConn struct{ in, out *half }

func (c fakeConn) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c fakeConn) Write(p []byte) (int, error) { return c.out.Write(p) }
func (c fakeConn) Close() error {
	c.in.close(io.ErrClosedPipe)
	c.out.close(io.EOF)
	return nil
}

// publisher is a session that shares blocks, reachable over any number of
// routes.
type publisher struct {
	t       testing.TB
	session wire.SessionNumber
	blocks  map[chunk.Ref][]byte
	latency time.Duration
	rate    float64
	cut     int // each connection dies after so many bytes
	serve   func(ctx context.Context, conn io.ReadWriteCloser, first []byte) error

	mu     sync.Mutex
	wg     sync.WaitGroup
	asked  map[chunk.Ref]int // loads
	dials  int
	refuse bool
	downs  []*half // publisher to reader
	lie    func(r chunk.Ref, data []byte) []byte
}

var sessions byte

func newPublisher(t testing.TB, blocks map[chunk.Ref][]byte) *publisher {
	sessions++
	p := &publisher{t: t, blocks: blocks, asked: make(map[chunk.Ref]int)}
	p.session[0] = sessions
	return p
}

func (p *publisher) Block(_ context.Context, r chunk.Ref) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[r]++
	b, ok := p.blocks[r]
	if !ok {
		return nil, errFake
	}
	if p.lie != nil {
		b = p.lie(r, b)
	}
	return b, nil
}

func (p *publisher) Session() wire.SessionNumber { return p.session }

func (p *publisher) Gateway() (id wire.NodeID) { return id }

func (p *publisher) Dial(ctx context.Context, first []byte) (io.ReadWriteCloser, error) {
	p.mu.Lock()
	p.dials++
	refuse, serve := p.refuse, p.serve
	p.mu.Unlock()
	if refuse {
		return nil, errFake
	}
	select {
	case <-time.After(2 * p.latency):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	up, down := newHalf(p.latency, 0), newHalf(p.latency, p.rate)
	down.cut = p.cut
	p.mu.Lock()
	p.downs = append(p.downs, down)
	p.mu.Unlock()
	first = bytes.Clone(first)
	p.wg.Go(func() {
		far := fakeConn{in: up, out: down}
		if serve != nil {
			_ = serve(context.Background(), far, first)
			return
		}
		_ = (&Server{Blocks: p}).Serve(context.Background(), far, first)
	})
	return fakeConn{in: down, out: up}, nil
}

func (p *publisher) count(r chunk.Ref) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[r]
}

// loads returns how many different blocks were asked for.
func (p *publisher) loads() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

func (p *publisher) each(fn func(h *half)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.downs {
		fn(h)
	}
}

// bytes returns how many bytes readers took from p.
func (p *publisher) bytes() (n int64) {
	p.each(func(h *half) {
		h.mu.Lock()
		n += h.passed
		h.mu.Unlock()
	})
	return n
}

// finder finds what it is told.
type finder struct {
	mu     sync.Mutex
	routes []Route
	calls  int
	fn     func(call int) ([]Route, error)
}

func found(r ...Route) *finder { return &finder{routes: r} }

func (f *finder) Find(context.Context, chunk.Ref) ([]Route, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.fn != nil {
		return f.fn(f.calls)
	}
	return f.routes, nil
}

// memStore is a Store in memory.
type memStore struct {
	mu   sync.Mutex
	m    map[chunk.Ref][]byte
	fail bool
}

func newMemStore() *memStore { return &memStore{m: make(map[chunk.Ref][]byte)} }

func (s *memStore) Get(r chunk.Ref) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.m[r]; ok {
		return b, nil
	}
	return nil, errFake
}

func (s *memStore) ReadRange(r chunk.Ref, p []byte, off int64) (int, error) {
	b, err := s.Get(r)
	if err != nil {
		return 0, err
	}
	if off >= int64(len(b)) {
		return 0, nil
	}
	return copy(p, b[off:]), nil
}

func (s *memStore) Put(r chunk.Ref, data []byte) error {
	if err := r.Verify(data); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		return errFake
	}
	s.m[r] = bytes.Clone(data)
	return nil
}

func (s *memStore) Has(r chunk.Ref) bool { _, err := s.Get(r); return err == nil }

func (s *memStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m)
}

// content is a real file as a DAG.
type content struct {
	root   chunk.Ref
	data   []byte
	blocks map[chunk.Ref][]byte
	leaves []chunk.Ref
}

func (c *content) Node(r chunk.Ref, b []byte) error { c.blocks[r] = bytes.Clone(b); return nil }

func (c *content) Leaf(r chunk.Ref, off, n int64) error {
	c.blocks[r] = c.data[off : off+n]
	c.leaves = append(c.leaves, r)
	return nil
}

func newContent(t testing.TB, size int, seed uint64) *content {
	t.Helper()
	c := &content{data: make([]byte, size), blocks: make(map[chunk.Ref][]byte)}
	var key [32]byte
	key[0] = byte(seed)
	_, _ = rand.NewChaCha8(key).Read(c.data)
	e, err := chunk.ImportFile(t.Context(), bytes.NewReader(c.data), int64(size), c)
	if err != nil {
		t.Fatal(err)
	}
	c.root = e.Ref
	return c
}

// readAll reads the file in pieces of n bytes and compares it.
func (c *content) readAll(ctx context.Context, f *Fetcher, n int) error {
	x, err := f.Open(ctx, c.root, c.root)
	if err != nil {
		return err
	}
	defer x.Close()
	p := make([]byte, n)
	for off := 0; off < len(c.data); {
		k, err := x.ReadAt(ctx, p, int64(off))
		if !bytes.Equal(p[:k], c.data[off:off+k]) {
			return errors.New("wrong bytes")
		}
		off += k
		if err != nil && !(err == io.EOF && off == len(c.data)) {
			return err
		}
	}
	return nil
}
