package fs

import (
	"context"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
)

// readonly answers every operation that would change something with EROFS.
// Without it the server says EIO or EPERM, and lets chmod succeed.
type readonly struct{}

func (readonly) Setattr(context.Context, *fuse.SetattrRequest, *fuse.SetattrResponse) error {
	return eROFS
}

func (readonly) Create(context.Context, *fuse.CreateRequest, *fuse.CreateResponse) (fusefs.Node, fusefs.Handle, error) {
	return nil, nil, eROFS
}

func (readonly) Mkdir(context.Context, *fuse.MkdirRequest) (fusefs.Node, error) { return nil, eROFS }

func (readonly) Mknod(context.Context, *fuse.MknodRequest) (fusefs.Node, error) { return nil, eROFS }

func (readonly) Symlink(context.Context, *fuse.SymlinkRequest) (fusefs.Node, error) {
	return nil, eROFS
}

func (readonly) Link(context.Context, *fuse.LinkRequest, fusefs.Node) (fusefs.Node, error) {
	return nil, eROFS
}

func (readonly) Remove(context.Context, *fuse.RemoveRequest) error { return eROFS }

func (readonly) Rename(context.Context, *fuse.RenameRequest, fusefs.Node) error { return eROFS }

// Fsync has nothing to do: nothing here is ever dirty.
func (readonly) Fsync(context.Context, *fuse.FsyncRequest) error { return nil }

// Access refuses writing, so that editors say "read only" before and not
// after the work is done.
func (readonly) Access(_ context.Context, req *fuse.AccessRequest) error {
	if req.Mask&2 != 0 {
		return eROFS
	}
	return nil
}

func (readonly) Getxattr(_ context.Context, req *fuse.GetxattrRequest, _ *fuse.GetxattrResponse) error {
	return noXattr(req.Name)
}

// Listxattr says that there are none, so that cp -a carries nothing away.
func (readonly) Listxattr(context.Context, *fuse.ListxattrRequest, *fuse.ListxattrResponse) error {
	return nil
}

func (readonly) Setxattr(context.Context, *fuse.SetxattrRequest) error { return eROFS }

func (readonly) Removexattr(context.Context, *fuse.RemovexattrRequest) error { return eROFS }
