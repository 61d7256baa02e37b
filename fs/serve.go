package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
)

// server answers the kernel's requests. It stands in the place of
// fusefs.Server, which begins a goroutine and makes a buffer of 128 KiB for
// each request, and which forgets an interrupt that overtakes its request:
// the reader then waited for a deadline instead of ending at once.
//
// A few goroutines read requests. What is known not to wait is answered right
// there, so that one of them reads again soon; all else gets a goroutine.
type server struct {
	conn *fuse.Conn
	t    *tree
	log  *slog.Logger
	wg   sync.WaitGroup // requests with a goroutine
	bufs sync.Pool      // *[]byte of readMax, for what reads return

	mu      sync.Mutex
	nodes   map[fuse.NodeID]*served          // guarded by mu; what the kernel knows
	ids     map[fusefs.Node]fuse.NodeID      // guarded by mu
	last    fuse.NodeID                      // guarded by mu; numbers are not used again
	handles map[fuse.HandleID]*handle        // guarded by mu
	opened  fuse.HandleID                    // guarded by mu; the last one
	running map[fuse.RequestID]*interruption // guarded by mu
}

// served is a node that the kernel knows.
type served struct {
	node fusefs.Node
	refs uint64 // guarded by server.mu; look-ups that the kernel has not forgotten
}

// handle is what the kernel has open.
type handle struct {
	h fusefs.Handle

	mu      sync.Mutex
	listing []byte // guarded by mu; a folder's entries as the kernel reads them
}

// interruption is how an interrupt reaches a request.
type interruption struct {
	cancel context.CancelFunc // guarded by server.mu; nil while the request waits for nothing
	came   bool               // guarded by server.mu
}

const (
	readMax = 128 << 10 // bytes; the longest read of the kernel, which Conn does not let grow

	// Readers of requests. With one, answering would keep it from reading;
	// more than four only wake each other (measured).
	minReaders, maxReaders = 2, 4
)

func newServer(conn *fuse.Conn, t *tree) *server {
	s := &server{
		conn: conn, t: t, log: t.cfg.Log,
		nodes: map[fuse.NodeID]*served{1: {node: t.root, refs: 1}}, ids: map[fusefs.Node]fuse.NodeID{t.root: 1}, last: 1,
		handles: make(map[fuse.HandleID]*handle), running: make(map[fuse.RequestID]*interruption),
	}
	s.bufs.New = func() any { b := make([]byte, readMax); return &b }
	return s
}

// serve returns when the drive is unmounted, with nil, or when the connection
// fails, and all requests are answered.
func (s *server) serve() error {
	defer s.wg.Wait()
	n := max(minReaders, min(maxReaders, runtime.NumCPU()))
	ended := make(chan error, n)
	for range n {
		go func() { ended <- s.read() }()
	}
	var errs []error
	for range n {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// read takes requests until the drive is gone.
func (s *server) read() error {
	for {
		req, err := s.conn.ReadRequest()
		switch {
		case err == nil:
			s.take(req)
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOENT):
			// ENOENT: the request was taken back before it was read.
		default:
			return fmt.Errorf("read request: %w", err)
		}
	}
}

// take answers a request if that needs no waiting, or has it answered.
func (s *server) take(req fuse.Request) {
	switch r := req.(type) {
	case *fuse.InterruptRequest:
		s.interrupt(r)
		return
	case *fuse.ForgetRequest:
		s.forget(r.Node, r.N)
		r.Respond()
		return
	case *fuse.BatchForgetRequest:
		for _, f := range r.Forget {
			s.forget(f.NodeID, f.N)
		}
		r.Respond()
		return
	}
	id := req.Hdr().ID
	in := &interruption{}
	s.mu.Lock()
	s.running[id] = in
	s.mu.Unlock()
	if r, ok := req.(*fuse.ReadRequest); ok && !r.Dir && s.readHeld(r) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	in.cancel = cancel
	if in.came {
		cancel()
	}
	s.mu.Unlock()
	s.wg.Go(func() {
		defer cancel()
		s.answer(ctx, req)
	})
}

// interrupt ends a request's wait. Another reader may hold that request and
// not have told of it yet; the kernel then asks again.
func (s *server) interrupt(r *fuse.InterruptRequest) {
	s.mu.Lock()
	in := s.running[r.IntrID]
	if in != nil {
		in.came = true
		if in.cancel != nil {
			in.cancel()
		}
	}
	s.mu.Unlock()
	if in == nil {
		runtime.Gosched()
		r.RespondError(fuse.Errno(syscall.EAGAIN))
		return
	}
	r.Respond()
}

// over forgets a request; the caller answers it next.
func (s *server) over(req fuse.Request) {
	s.mu.Lock()
	delete(s.running, req.Hdr().ID)
	s.mu.Unlock()
}

// readHeld answers a read of content that is here already.
func (s *server) readHeld(r *fuse.ReadRequest) bool {
	h := s.handle(r.Handle)
	if h == nil {
		return false
	}
	f, ok := h.h.(*fileHandle)
	if !ok || r.Size > readMax {
		return false
	}
	buf := s.bufs.Get().(*[]byte)
	defer s.bufs.Put(buf)
	n, ok := f.readHeld((*buf)[:r.Size], r.Offset)
	if !ok {
		return false
	}
	s.over(r)
	r.Respond(&fuse.ReadResponse{Data: (*buf)[:n]})
	return true
}

// answer answers a request, whatever happens.
func (s *server) answer(ctx context.Context, req fuse.Request) {
	var respond func()
	var err error
	func() {
		defer func() {
			if p := recover(); p != nil {
				// The request holds names, so it is not told.
				s.log.Error("a request failed by a bug", "stack", string(debug.Stack()))
				respond, err = nil, fuse.Errno(syscall.EIO)
			}
		}()
		respond, err = s.handleRequest(ctx, req)
	}()
	// The kernel may reuse what names the request once it has an answer.
	s.over(req)
	if err != nil {
		req.RespondError(err)
		return
	}
	respond()
}

func (s *server) node(id fuse.NodeID) fusefs.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[id]; n != nil {
		return n.node
	}
	return nil
}

func (s *server) handle(id fuse.HandleID) *handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handles[id]
}

// found fills in what the kernel learns of a node that was looked up or made.
func (s *server) found(ctx context.Context, n fusefs.Node, resp *fuse.LookupResponse) error {
	if err := n.Attr(ctx, &resp.Attr); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.ids[n]
	if !ok {
		s.last++
		id = s.last
		s.ids[n], s.nodes[id] = id, &served{node: n}
	}
	s.nodes[id].refs++
	resp.Node = id
	return nil
}

// forget takes back n look-ups of a node.
func (s *server) forget(id fuse.NodeID, n uint64) {
	s.mu.Lock()
	sn := s.nodes[id]
	if sn == nil {
		s.mu.Unlock()
		return
	}
	sn.refs -= min(n, sn.refs)
	gone := sn.refs == 0
	if gone {
		delete(s.nodes, id)
		delete(s.ids, sn.node)
	}
	s.mu.Unlock()
	if f, ok := sn.node.(fusefs.NodeForgetter); ok && gone {
		f.Forget()
	}
}

func (s *server) open(h fusefs.Handle) fuse.HandleID {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	s.handles[s.opened] = &handle{h: h}
	return s.opened
}

func (s *server) release(id fuse.HandleID) *handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.handles[id]
	delete(s.handles, id)
	return h
}

// invalidateAttr tells the kernel to ask for a node's attributes anew. It may
// wait for a lock that a request holds, so no request calls it.
func (s *server) invalidateAttr(n fusefs.Node) {
	s.mu.Lock()
	id, ok := s.ids[n]
	s.mu.Unlock()
	if ok {
		_ = s.conn.InvalidateNode(id, 0, 0) // it may have forgotten the node
	}
}

// invalidateEntry tells the kernel that name in parent is not what it was.
func (s *server) invalidateEntry(parent fusefs.Node, name string) {
	s.mu.Lock()
	id, ok := s.ids[parent]
	s.mu.Unlock()
	if ok {
		_ = s.conn.InvalidateEntry(id, name) // as above
	}
}
