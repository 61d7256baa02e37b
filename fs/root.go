package fs

import (
	"context"
	"os"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
)

// root is the top of the drive.
type root struct {
	readonly
	t      *tree
	readme *text
	search *searchDir
	shared *sharedDir // nil without a Share
	status *statusDir
}

func (d *root) Attr(_ context.Context, a *fuse.Attr) error {
	d.t.owned(a, os.ModeDir|0o755)
	a.Inode, a.Valid, a.Mtime = inodeRoot, forever, d.t.start
	return nil
}

func (d *root) Lookup(_ context.Context, req *fuse.LookupRequest, resp *fuse.LookupResponse) (fusefs.Node, error) {
	resp.EntryValid = forever
	switch req.Name {
	case "README.txt":
		return d.readme, nil
	case "hash":
		return d.t.hash, nil
	case "search":
		return d.search, nil
	case "status":
		return d.status, nil
	case "shared":
		if d.shared != nil {
			return d.shared, nil
		}
	}
	return nil, eNOENT
}

func (d *root) ReadDirAll(context.Context) ([]fuse.Dirent, error) {
	ents := []fuse.Dirent{
		{Inode: inodeReadme, Type: fuse.DT_File, Name: "README.txt"},
		{Inode: inodeHash, Type: fuse.DT_Dir, Name: "hash"},
		{Inode: inodeSearch, Type: fuse.DT_Dir, Name: "search"},
		{Inode: inodeStatus, Type: fuse.DT_Dir, Name: "status"},
	}
	if d.shared != nil {
		ents = append(ents, fuse.Dirent{Inode: inodeShared, Type: fuse.DT_Dir, Name: "shared"})
	}
	return ents, nil
}

// Statfs never waits: Space answers from memory. It never says zero, because
// programs that look for room would refuse to copy.
func (t *tree) Statfs(_ context.Context, _ *fuse.StatfsRequest, resp *fuse.StatfsResponse) error {
	const bsize = 4096
	s := t.lib.Space()
	if s.Total == 0 && t.root.shared != nil {
		s = t.root.shared.fs.b.space()
	}
	resp.Bsize, resp.Frsize, resp.Namelen = bsize, bsize, 255
	resp.Blocks = max(s.Total/bsize, 1)
	resp.Bfree = min(s.Free/bsize, resp.Blocks)
	resp.Bavail = resp.Bfree
	resp.Files, resp.Ffree = 1<<32, 1<<31
	return nil
}
