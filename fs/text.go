package fs

import (
	"context"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
)

// defaultReadme is README.txt of the drive.
const defaultReadme = `This is a wanderfs drive. Everything on it works with ordinary tools.

  hash/<cid>             a file or folder by its CID (as IPFS tools print it):
                         cp hash/bafybei... ~/
  search/<words>/        what others share under names with these words:
                         ls "search/free jazz"; cp "search/free jazz/"*.flac ~/
                         mkdir "search/free jazz" keeps the search standing,
                         rmdir ends it
  shared/                copy a file or folder in, and it is published;
                         delete it, and it is withdrawn
  status/                what the node is doing, for you alone

Only shared/ can be written. Names that begin with a dot and temporary files
in shared/ stay private. Nothing is asked of the network before you open
something: looking at a folder's properties or completing a name is local.

About one file or folder:
  getfattr -n user.wanderfs.cid shared/song.flac     its CID
  getfattr -n user.wanderfs.state shared/song.flac   "published" once others can find it
  getfattr -n user.wanderfs.cached hash/bafybei...   percent held here
  getfattr -n user.wanderfs.error hash/bafybei...    why a read failed
  setfattr -n user.wanderfs.pin -v 1 hash/bafybei... keep it here

A read that makes no progress for 30 seconds fails; Ctrl-C ends it at once.
An unknown CID is looked for during 10 seconds: "Connection timed out" means
that nobody was found who has it now.
`

// text is a file with a fixed text.
type text struct {
	readonly
	t    *tree
	body string
}

func (f *text) Attr(_ context.Context, a *fuse.Attr) error {
	f.t.owned(a, 0o644)
	a.Inode, a.Valid, a.Mtime = inodeReadme, forever, f.t.start
	setSize(a, int64(len(f.body)))
	return nil
}

func (f *text) Open(_ context.Context, req *fuse.OpenRequest, resp *fuse.OpenResponse) (fusefs.Handle, error) {
	if !req.Flags.IsReadOnly() {
		return nil, eROFS
	}
	resp.Flags |= fuse.OpenKeepCache
	return &textHandle{body: f.body}, nil
}

type textHandle struct{ body string }

func (h *textHandle) Read(_ context.Context, req *fuse.ReadRequest, resp *fuse.ReadResponse) error {
	if req.Offset < int64(len(h.body)) {
		rest := h.body[req.Offset:]
		resp.Data = append(resp.Data[:0], rest[:min(len(rest), req.Size)]...)
	}
	return nil
}
