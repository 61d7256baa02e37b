package fs

import (
	"context"
	"os"
	"slices"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
)

// statusDir holds plain text made anew at each open, for the owner alone.
type statusDir struct {
	readonly
	t *tree
}

func (d *statusDir) Attr(_ context.Context, a *fuse.Attr) error {
	d.t.owned(a, os.ModeDir|0o700)
	a.Inode, a.Valid, a.Mtime = inodeStatus, brief, d.t.start
	return nil
}

func (d *statusDir) Lookup(_ context.Context, req *fuse.LookupRequest, resp *fuse.LookupResponse) (fusefs.Node, error) {
	if !slices.Contains(d.t.lib.StatusFiles(), req.Name) {
		return nil, eNOENT
	}
	resp.EntryValid = brief
	return statusFile{t: d.t, name: req.Name}, nil
}

func (d *statusDir) ReadDirAll(context.Context) ([]fuse.Dirent, error) {
	var ents []fuse.Dirent
	for _, name := range d.t.lib.StatusFiles() {
		if validShown(name) {
			ents = append(ents, fuse.Dirent{Inode: placeInode(inodeStatus, name), Type: fuse.DT_File, Name: name})
		}
	}
	return ents, nil
}

// statusFile is a value: equal names are equal nodes.
type statusFile struct {
	readonly
	t    *tree
	name string
}

func (f statusFile) Attr(_ context.Context, a *fuse.Attr) error {
	f.t.owned(a, 0o400)
	a.Inode, a.Valid, a.Mtime = placeInode(inodeStatus, f.name), brief, f.t.start
	return nil
}

// Open takes the text as it is now. Its length is not known before, so it is
// read without the page cache, like a file of /proc.
func (f statusFile) Open(_ context.Context, req *fuse.OpenRequest, resp *fuse.OpenResponse) (fusefs.Handle, error) {
	if !req.Flags.IsReadOnly() {
		return nil, eROFS
	}
	resp.Flags |= fuse.OpenDirectIO
	return &textHandle{body: f.t.lib.Status(f.name)}, nil
}
