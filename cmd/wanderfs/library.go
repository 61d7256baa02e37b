package main

import (
	"context"
	"errors"
	"fmt"

	"wanderfs/cache/chunk"
	"wanderfs/fs"
	"wanderfs/node"
	"wanderfs/node/control"
)

// library is a node as the drive wants to see it.
type library struct{ n *node.Node }

var (
	_ fs.Library = library{}
	_ fs.Pinned  = library{}
)

// drive translates the node's errors into the drive's.
func drive(err error) error {
	for _, e := range []struct{ from, to error }{
		{node.ErrNotFound, fs.ErrNoSource},
		{node.ErrStalled, fs.ErrStalled},
		{node.ErrQuery, fs.ErrBadQuery},
		{chunk.ErrNotFile, fs.ErrNotFile},
		{chunk.ErrNotDir, fs.ErrNotFolder},
		{chunk.ErrNotFound, fs.ErrNotFound},
		{chunk.ErrBadName, fs.ErrBadName},
		{chunk.ErrHostile, fs.ErrInvalid},
	} {
		if errors.Is(err, e.from) {
			return fmt.Errorf("%w: %w", e.to, err)
		}
	}
	return err
}

func (l library) Stat(ctx context.Context, root, r chunk.Ref) (chunk.Entry, error) {
	e, err := l.n.Stat(ctx, root, r)
	return e, drive(err)
}

func (l library) Open(ctx context.Context, root, r chunk.Ref) (fs.File, error) {
	f, err := l.n.Open(ctx, root, r)
	if err != nil {
		return nil, drive(err)
	}
	return driveFile{f}, nil
}

func (l library) Dir(ctx context.Context, root, r chunk.Ref) (fs.Dir, error) {
	d, err := l.n.Dir(ctx, root, r)
	if err != nil {
		return nil, drive(err)
	}
	return driveDir{d}, nil
}

func (l library) Search(ctx context.Context, query string) (fs.Results, error) {
	r, err := l.n.Search(ctx, query)
	if err != nil {
		return nil, drive(err)
	}
	return r, nil
}

func (l library) Keep(query string) error { return drive(l.n.Keep(query)) }
func (l library) Drop(query string) error { return drive(l.n.Drop(query)) }
func (l library) Kept() []string          { return l.n.Kept() }

func (l library) State(r chunk.Ref) fs.State {
	s := l.n.State(r)
	out := fs.State{Cached: s.Cached, Sources: s.Sources, Err: s.Err, Mime: l.n.Mime(r), Pinned: s.Pinned}
	switch {
	case s.Err != "":
		out.State = "error"
	case s.Cached == 100:
		out.State = "cached"
	case s.Sources > 0:
		out.State = "loading"
	default:
		out.State = "waiting"
	}
	return out
}

func (l library) Pin(r chunk.Ref, on bool) error { return l.n.Pin(r, on) }
func (l library) Pinned() []chunk.Ref            { return l.n.Pinned() }

func (l library) Space() fs.Space {
	total, free := l.n.Space()
	return fs.Space{Total: total, Free: free}
}

// driveFile and driveDir translate errors.
type driveFile struct{ nodeFile }

// nodeFile is a node's open file; the drive waits while its bytes arrive.
type nodeFile interface {
	fs.File
	fs.Progress
	fs.Local
}

func (f driveFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := f.nodeFile.ReadAt(ctx, p, off)
	return n, drive(err)
}

var (
	_ fs.Progress = driveFile{}
	_ fs.Local    = driveFile{}
)

type driveDir struct{ dir fs.Dir }

func (d driveDir) Lookup(ctx context.Context, name string) (chunk.Entry, error) {
	e, err := d.dir.Lookup(ctx, name)
	return e, drive(err)
}

func (d driveDir) Each(ctx context.Context, fn func(chunk.Entry) error) error {
	return drive(d.dir.Each(ctx, fn))
}

// shareDir is what the drive tells of changes; node's share satisfies it.
type shareDir interface {
	Dir() string
	BeginWrite(name string)
	Wrote(name string)
	Closed(name string)
	Renamed(old, new string)
	Removed(name string)
}

var _ fs.Share = sharedFolder{}

// sharedFolder adds the state of each name.
type sharedFolder struct {
	shareDir
	n *node.Node
}

func (s sharedFolder) State(name string) fs.ShareState {
	st := s.n.Share().State(name)
	return fs.ShareState{Ref: st.Ref, Phase: st.Phase, Err: st.Err}
}

// controlNode is a node as the control socket wants to see it.
type controlNode struct {
	n  *node.Node
	at string // the mountpoint, "" for a relay
}

var _ control.Node = controlNode{}

func local(err error) error {
	if errors.Is(err, node.ErrNotFound) || errors.Is(err, node.ErrStalled) {
		return fmt.Errorf("%w: %w", control.ErrNotFound, err)
	}
	return err
}

func (c controlNode) Status() control.Status {
	s := c.n.Status()
	s.Drive.Mountpoint = c.at
	return s
}

func (c controlNode) Search(ctx context.Context, query string) ([]chunk.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, firstResults)
	defer cancel()
	r, err := c.n.Search(ctx, query)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.List(), r.Err()
}

func (c controlNode) Stat(ctx context.Context, root, r chunk.Ref) (chunk.Entry, error) {
	e, err := c.n.Stat(ctx, root, r)
	return e, local(err)
}

func (c controlNode) List(ctx context.Context, root, r chunk.Ref, fn func(chunk.Entry) error) error {
	d, err := c.n.Dir(ctx, root, r)
	if err != nil {
		return local(err)
	}
	return local(d.Each(ctx, fn))
}

func (c controlNode) OpenFile(ctx context.Context, root, r chunk.Ref) (control.File, error) {
	f, err := c.n.Open(ctx, root, r)
	if err != nil {
		return nil, local(err)
	}
	return f, nil
}

func (c controlNode) ShareState(name string) control.ShareState {
	st := c.n.Share().State(name)
	return control.ShareState{CID: st.Ref.Name(), Phase: st.Phase, Err: st.Err}
}

func (c controlNode) Link(path string) (string, error) { return c.n.Share().Link(path) }
