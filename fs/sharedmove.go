package fs

import (
	"context"

	"bazil.org/fuse"
	fusefs "bazil.org/fuse/fs"
	"golang.org/x/sys/unix"
)

// Remove unlinks a file or removes an empty folder.
func (d *sharedDir) Remove(ctx context.Context, req *fuse.RemoveRequest) error {
	path, err := d.unlink(req)
	if err != nil {
		return local(err)
	}
	d.fs.s.Removed(path)
	return nil
}

func (d *sharedDir) unlink(req *fuse.RemoveRequest) (path string, err error) {
	d.fs.names.Lock()
	defer d.fs.names.Unlock()
	if path, err = d.pathLocked(); err != nil {
		return "", err
	}
	path = join(path, req.Name)
	return path, d.fs.b.in(path, func(dir int, base string) error {
		flags := 0
		if req.Dir {
			flags = unix.AT_REMOVEDIR
		}
		return d.replaceLocked(req.Name, dir, base, func() error { return unix.Unlinkat(dir, base, flags) })
	})
}

// replaceLocked does what takes name from what bears it, keeping hold of it
// for those who have it open. It wants fs.names held for writing.
func (d *sharedDir) replaceLocked(name string, dir int, base string, do func() error) error {
	d.mu.Lock()
	k := d.kids[name]
	d.mu.Unlock()
	fd := -1
	if k != nil {
		if got, err := unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
			fd = got
		}
	}
	if err := do(); err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return err
	}
	if k != nil {
		k.base().killLocked(fd)
		d.drop(name, k, 0)
	}
	return nil
}

// Rename moves within shared; the name of what is there is taken over in one
// step. Out of shared is into what cannot be written.
func (d *sharedDir) Rename(ctx context.Context, req *fuse.RenameRequest, newDir fusefs.Node) error {
	to, ok := newDir.(*sharedDir)
	if !ok {
		return eROFS
	}
	from, into, err := d.rename(req.OldName, to, req.NewName)
	if err != nil {
		return local(err)
	}
	d.fs.s.Renamed(from, into)
	return nil
}

func (d *sharedDir) rename(oldName string, to *sharedDir, newName string) (from, into string, err error) {
	d.fs.names.Lock()
	defer d.fs.names.Unlock()
	if from, err = d.pathLocked(); err != nil {
		return "", "", err
	}
	if into, err = to.pathLocked(); err != nil {
		return "", "", err
	}
	from, into = join(from, oldName), join(into, newName)
	if from == into {
		return from, into, nil
	}
	err = d.fs.b.in(from, func(dir int, base string) error {
		return d.fs.b.in(into, func(dir2 int, base2 string) error {
			return to.replaceLocked(newName, dir2, base2, func() error {
				return unix.Renameat(dir, base, dir2, base2)
			})
		})
	})
	if err != nil {
		return "", "", err
	}
	d.mu.Lock()
	k := d.kids[oldName]
	delete(d.kids, oldName)
	d.mu.Unlock()
	if k != nil {
		k.base().up, k.base().name = to, newName
		to.mu.Lock()
		to.kids[newName] = k
		to.mu.Unlock()
	}
	return from, into, nil
}
