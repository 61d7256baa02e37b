package fs

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
	"golang.org/x/sys/unix"
)

// Open opens the folder itself, to say at once what hinders.
func (d *sharedDir) Open(ctx context.Context, _ *fuse.OpenRequest, _ *fuse.OpenResponse) (fusefs.Handle, error) {
	fd, err := d.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return nil, local(err)
	}
	return &sharedDirHandle{fd: fd}, nil
}

// sharedDirHandle is an opened folder; rewinding it reads it anew.
type sharedDirHandle struct {
	mu sync.Mutex
	fd int
}

func (h *sharedDirHandle) ReadDirAll(ctx context.Context) ([]fuse.Dirent, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := unix.Seek(h.fd, 0, unix.SEEK_SET); err != nil {
		return nil, local(err)
	}
	var ents []fuse.Dirent
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Getdents(h.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, local(err)
		}
		if n <= 0 {
			return ents, nil
		}
		ents = appendDirents(ents, buf[:n])
	}
}

// appendDirents reads linux_dirent64: inode 8, offset 8, length 2, type 1, name.
func appendDirents(ents []fuse.Dirent, b []byte) []fuse.Dirent {
	for len(b) >= 19 {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size < 19 || size > len(b) {
			break
		}
		name := b[19:size]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		ents = append(ents, fuse.Dirent{
			Inode: binary.NativeEndian.Uint64(b), Type: fuse.DirentType(b[18]), Name: string(name),
		})
		b = b[size:]
	}
	return ents
}

func (h *sharedDirHandle) Release(context.Context, *fuse.ReleaseRequest) error {
	return unix.Close(h.fd)
}
