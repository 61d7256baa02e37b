package share

import (
	"context"
	"errors"
	"io"
	"strconv"

	"wanderfs/cache/chunk"
)

// Block returns the block that r names, hashed just now or, for one given
// moments ago and not withdrawn since, at that time. It answers only for what
// group holds. Whatever the reason, the error is ErrNotShared, or ctx's if that
// has ended. The slice is shared: callers must not write to it.
//
// What does not match any more is withdrawn and looked at again.
func (s *Share) Block(ctx context.Context, r chunk.Ref, group int) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, ok := key(r); !ok {
		return nil, ErrNotShared
	}
	k := heldKey{r, group}
	if h, ok := s.recent.get(k); ok {
		if n, gen := s.mayGive(h.owner, group); n != nil && gen == h.gen {
			return h.data, nil
		}
		s.recent.drop(k)
	}
	// One read serves everybody who asks meanwhile; it is short, so nobody's
	// leaving ends it for the others.
	wait := s.flight.DoChan(strconv.Itoa(group)+r.CID().KeyString(), func() (any, error) {
		if !s.enter() {
			return []byte(nil), ErrNotShared
		}
		defer s.reads.Done()
		h, err := s.find(context.WithoutCancel(ctx), r, group)
		if err == nil {
			s.recent.put(h)
		}
		return h.data, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case res := <-wait:
		if res.Err != nil {
			return nil, ErrNotShared
		}
		return res.Val.([]byte), nil
	}
}

// enter counts a read, unless the share is closed.
func (s *Share) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.reads.Add(1)
	return true
}

// mayGive returns the item, and how often it was withdrawn so far, if its
// blocks may be given to the group's session.
func (s *Share) mayGive(id int64, group int) (*node, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.byID[id]
	if n == nil || n.state != ready || n.top().group != group || !n.live() {
		return nil, 0
	}
	return n, n.gen
}

// find tries every place where the block may be. A name says only by which
// hash, so a leaf may be asked for as a node and a node as a leaf.
func (s *Share) find(ctx context.Context, r chunk.Ref, group int) (held, error) {
	k, _ := key(r)
	for _, node := range []bool{!r.IsRaw(), r.IsRaw()} {
		places, err := s.cat.sources(ctx, k, node)
		if err != nil {
			return held{}, err
		}
		tried := 0
		for _, at := range places {
			n, gen := s.mayGive(at.owner, group)
			if n == nil {
				continue
			}
			if tried++; tried > maxSources {
				break
			}
			data := at.block
			if !node {
				if data, err = s.read(n, at.idx); err != nil {
					s.doubt(n)
					continue
				}
			}
			if r.Verify(data) != nil {
				s.doubt(n)
				continue
			}
			if n, now := s.mayGive(at.owner, group); n == nil || now != gen {
				continue // withdrawn while it was read
			}
			return held{heldKey{r, group}, at.owner, gen, data}, nil
		}
	}
	return held{}, ErrNotShared
}

var errNotRegular = errors.New("not a regular file")

// read returns the idx-th chunk of the file as it is now on disk.
func (s *Share) read(n *node, idx int64) ([]byte, error) {
	s.mu.Lock()
	src, name := n.place()
	size := n.entry.Size
	s.mu.Unlock()
	if src == nil || name == "." || n.kind != chunk.File {
		return nil, ErrNotShared // gone meanwhile
	}
	off := idx * chunk.Size
	length := min(size-off, chunk.Size)
	if off < 0 || length < 0 {
		return nil, io.ErrUnexpectedEOF
	}
	root, err := src.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	f, err := root.OpenFile(name, openFile, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, kind, err := fstat(f)
	if err != nil {
		return nil, err
	}
	if kind != chunk.File {
		return nil, errNotRegular
	}
	if st.size < off+length {
		return nil, io.ErrUnexpectedEOF
	}
	data := make([]byte, length)
	if _, err := f.ReadAt(data, off); err != nil {
		return nil, err
	}
	return data, nil
}

// doubt withdraws an item that was not what the catalogue says.
func (s *Share) doubt(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.state != ready || !n.live() {
		return
	}
	n.withdraw()
	s.changedLocked()
	if n.kind == chunk.Folder { // its own node was damaged in the catalogue
		n.dirty, n.entry = true, chunk.Entry{Kind: chunk.Folder}
		n.version++
	} else {
		src, name := n.place()
		s.looks[look{src, name}] = struct{}{}
		n.entry.Ref = chunk.Ref{} // its nodes may be what is damaged: write them anew
		s.queueLocked(n)
	}
	s.wake()
}
