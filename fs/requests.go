package fs

import (
	"context"
	"syscall"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
)

const (
	eSTALE = fuse.Errno(syscall.ESTALE)
	eNOSYS = fuse.Errno(syscall.ENOSYS)
)

// handleRequest does what is asked and returns how to say so. ENOSYS is only
// for what no node knows: the kernel does not ask for it again.
func (s *server) handleRequest(ctx context.Context, req fuse.Request) (func(), error) {
	switch r := req.(type) {
	case *fuse.StatfsRequest:
		resp := &fuse.StatfsResponse{}
		err := s.t.Statfs(ctx, r, resp)
		return func() { r.Respond(resp) }, err
	case *fuse.DestroyRequest:
		return r.Respond, nil
	case *fuse.ReadRequest:
		return s.handleRead(ctx, r)
	case *fuse.WriteRequest:
		h := s.handle(r.Handle)
		if h == nil {
			return nil, eSTALE
		}
		w, ok := h.h.(fusefs.HandleWriter)
		if !ok {
			return nil, eROFS
		}
		resp := &fuse.WriteResponse{}
		err := w.Write(ctx, r, resp)
		return func() { r.Respond(resp) }, err
	case *fuse.FAllocateRequest:
		h := s.handle(r.Handle)
		if h == nil {
			return nil, eSTALE
		}
		a, ok := h.h.(fusefs.HandleFAllocater)
		if !ok {
			return nil, eNOTSUP
		}
		return r.Respond, a.FAllocate(ctx, r)
	case *fuse.FlushRequest:
		h := s.handle(r.Handle)
		if h == nil {
			return nil, eSTALE
		}
		if f, ok := h.h.(fusefs.HandleFlusher); ok {
			return r.Respond, f.Flush(ctx, r)
		}
		return r.Respond, nil
	case *fuse.ReleaseRequest:
		h := s.release(r.Handle)
		if h == nil {
			return nil, eSTALE
		}
		if f, ok := h.h.(fusefs.HandleReleaser); ok {
			return r.Respond, f.Release(ctx, r)
		}
		return r.Respond, nil
	}
	n := s.node(req.Hdr().Node)
	if n == nil {
		return nil, eSTALE
	}
	if respond, err, ok := s.handleNames(ctx, n, req); ok {
		return respond, err
	}
	return s.handleNode(ctx, n, req)
}

// handleRead reads a file, or a folder's entries.
func (s *server) handleRead(ctx context.Context, r *fuse.ReadRequest) (func(), error) {
	h := s.handle(r.Handle)
	if h == nil {
		return nil, eSTALE
	}
	if r.Dir {
		data, err := h.entries(ctx, r)
		return func() { r.Respond(&fuse.ReadResponse{Data: data}) }, err
	}
	f, ok := h.h.(fusefs.HandleReader)
	if !ok {
		return nil, eISDIR
	}
	buf := s.bufs.Get().(*[]byte)
	resp := &fuse.ReadResponse{Data: (*buf)[:0]}
	if err := f.Read(ctx, r, resp); err != nil {
		s.bufs.Put(buf)
		return nil, err
	}
	return func() {
		r.Respond(resp) // copies
		s.bufs.Put(buf)
	}, nil
}

// entries returns a part of a folder's listing, which is made anew when it is
// read from its beginning.
func (h *handle) entries(ctx context.Context, r *fuse.ReadRequest) ([]byte, error) {
	d, ok := h.h.(fusefs.HandleReadDirAller)
	if !ok {
		return nil, eNOTDIR
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Offset == 0 || h.listing == nil {
		all, err := d.ReadDirAll(ctx)
		if err != nil {
			return nil, err
		}
		h.listing = make([]byte, 0, 64*len(all))
		for _, e := range all {
			h.listing = fuse.AppendDirent(h.listing, e)
		}
	}
	if r.Offset < 0 || r.Offset >= int64(len(h.listing)) {
		return nil, nil
	}
	rest := h.listing[r.Offset:]
	return rest[:min(len(rest), r.Size)], nil
}

// handleNames answers requests about a name below n. ok is false for others.
func (s *server) handleNames(ctx context.Context, n fusefs.Node, req fuse.Request) (respond func(), err error, ok bool) {
	resp := &fuse.LookupResponse{}
	var made fusefs.Node
	switch r := req.(type) {
	case *fuse.LookupRequest:
		d, is := n.(fusefs.NodeRequestLookuper)
		if !is {
			return nil, eNOTDIR, true
		}
		made, err = d.Lookup(ctx, r, resp)
		respond = func() { r.Respond(resp) }
	case *fuse.MkdirRequest:
		d, is := n.(fusefs.NodeMkdirer)
		if !is {
			return nil, eROFS, true
		}
		made, err = d.Mkdir(ctx, r)
		respond = func() { r.Respond(&fuse.MkdirResponse{LookupResponse: *resp}) }
	case *fuse.MknodRequest:
		d, is := n.(fusefs.NodeMknoder)
		if !is {
			return nil, eROFS, true
		}
		made, err = d.Mknod(ctx, r)
		respond = func() { r.Respond(resp) }
	case *fuse.SymlinkRequest:
		d, is := n.(fusefs.NodeSymlinker)
		if !is {
			return nil, eROFS, true
		}
		made, err = d.Symlink(ctx, r)
		respond = func() { r.Respond(&fuse.SymlinkResponse{LookupResponse: *resp}) }
	case *fuse.LinkRequest:
		d, is := n.(fusefs.NodeLinker)
		old := s.node(r.OldNode)
		if !is || old == nil {
			return nil, eROFS, true
		}
		made, err = d.Link(ctx, r, old)
		respond = func() { r.Respond(resp) }
	case *fuse.CreateRequest:
		respond, err = s.handleCreate(ctx, n, r)
		return respond, err, true
	case *fuse.RemoveRequest:
		d, is := n.(fusefs.NodeRemover)
		if !is {
			return nil, eROFS, true
		}
		return r.Respond, d.Remove(ctx, r), true
	case *fuse.RenameRequest:
		d, is := n.(fusefs.NodeRenamer)
		to := s.node(r.NewDir)
		if !is || to == nil {
			return nil, eROFS, true
		}
		return r.Respond, d.Rename(ctx, r, to), true
	default:
		return nil, nil, false
	}
	if err == nil {
		err = s.found(ctx, made, resp)
	}
	return respond, err, true
}

func (s *server) handleCreate(ctx context.Context, n fusefs.Node, r *fuse.CreateRequest) (func(), error) {
	d, ok := n.(fusefs.NodeCreater)
	if !ok {
		return nil, eROFS
	}
	resp := &fuse.CreateResponse{}
	made, h, err := d.Create(ctx, r, resp)
	if err != nil {
		return nil, err
	}
	if err := s.found(ctx, made, &resp.LookupResponse); err != nil {
		if c, ok := h.(fusefs.HandleReleaser); ok {
			_ = c.Release(ctx, &fuse.ReleaseRequest{}) // the first error is told
		}
		return nil, err
	}
	resp.Handle = s.open(h)
	return func() { r.Respond(resp) }, nil
}

// handleNode answers requests about n itself.
func (s *server) handleNode(ctx context.Context, n fusefs.Node, req fuse.Request) (func(), error) {
	switch r := req.(type) {
	case *fuse.GetattrRequest:
		resp := &fuse.GetattrResponse{}
		err := n.Attr(ctx, &resp.Attr)
		return func() { r.Respond(resp) }, err
	case *fuse.SetattrRequest:
		c, ok := n.(fusefs.NodeSetattrer)
		if !ok {
			return nil, eROFS
		}
		resp := &fuse.SetattrResponse{}
		err := c.Setattr(ctx, r, resp)
		if err == nil {
			err = n.Attr(ctx, &resp.Attr)
		}
		return func() { r.Respond(resp) }, err
	case *fuse.OpenRequest:
		resp := &fuse.OpenResponse{}
		var h fusefs.Handle = n
		if o, ok := n.(fusefs.NodeOpener); ok {
			var err error
			if h, err = o.Open(ctx, r, resp); err != nil {
				return nil, err
			}
		}
		resp.Handle = s.open(h)
		return func() { r.Respond(resp) }, nil
	case *fuse.ReadlinkRequest:
		l, ok := n.(fusefs.NodeReadlinker)
		if !ok {
			return nil, eINVAL
		}
		target, err := l.Readlink(ctx, r)
		return func() { r.Respond(target) }, err
	case *fuse.AccessRequest:
		if a, ok := n.(fusefs.NodeAccesser); ok {
			return r.Respond, a.Access(ctx, r)
		}
		return r.Respond, nil
	case *fuse.FsyncRequest:
		if f, ok := n.(fusefs.NodeFsyncer); ok {
			return r.Respond, f.Fsync(ctx, r)
		}
		return r.Respond, nil
	}
	return s.handleXattr(ctx, n, req)
}

func (s *server) handleXattr(ctx context.Context, n fusefs.Node, req fuse.Request) (func(), error) {
	switch r := req.(type) {
	case *fuse.GetxattrRequest:
		x, ok := n.(fusefs.NodeGetxattrer)
		if !ok {
			return nil, eNOTSUP
		}
		resp := &fuse.GetxattrResponse{}
		err := x.Getxattr(ctx, r, resp)
		return func() { r.Respond(resp) }, tooLong(err, r.Size, resp.Xattr)
	case *fuse.ListxattrRequest:
		x, ok := n.(fusefs.NodeListxattrer)
		if !ok {
			return nil, eNOTSUP
		}
		resp := &fuse.ListxattrResponse{}
		err := x.Listxattr(ctx, r, resp)
		return func() { r.Respond(resp) }, tooLong(err, r.Size, resp.Xattr)
	case *fuse.SetxattrRequest:
		x, ok := n.(fusefs.NodeSetxattrer)
		if !ok {
			return nil, eNOTSUP
		}
		return r.Respond, x.Setxattr(ctx, r)
	case *fuse.RemovexattrRequest:
		x, ok := n.(fusefs.NodeRemovexattrer)
		if !ok {
			return nil, eNOTSUP
		}
		return r.Respond, x.Removexattr(ctx, r)
	}
	return nil, eNOSYS
}

// tooLong is ERANGE for a value that has not room; size 0 asks for its length.
func tooLong(err error, size uint32, value []byte) error {
	if err == nil && size != 0 && len(value) > int(size) {
		return fuse.Errno(syscall.ERANGE)
	}
	return err
}
