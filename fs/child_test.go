package fs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"wanderfs/fs"
	"wanderfs/fs/fusetest"
)

// reexec returns a command that runs one of the children.
func reexec(t testing.TB, what string, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := fusetest.Command(t, exe, args...)
	cmd.Env = append(cmd.Env, child+"="+what)
	return cmd
}

// serveChild mounts args[0] over the share args[1], for other users too if
// there is an args[2], and serves until killed.
func serveChild(args []string) int {
	m, err := fs.Mount(context.Background(), fs.Config{
		Mountpoint: args[0], Library: fusetest.NewLibrary(), Share: fusetest.NewShare(args[1]), AllowOther: len(args) > 2,
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("mounted")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent goes
	_ = m.Close()
	return 0
}

// writeChild tries everything that writes on the file args[0] in the folder
// args[1], and prints what succeeded or failed with anything but EROFS.
func writeChild(args []string) int {
	file, dir := args[0], args[1]
	fresh := dir + "/new"
	ts := []unix.Timespec{{Sec: 1}, {Sec: 1}}
	open := func(name string, flags int) error {
		fd, err := unix.Open(name, flags, 0o600)
		if err == nil {
			_ = unix.Close(fd)
		}
		return err
	}
	for _, c := range []struct {
		name string
		err  error
	}{
		{"open to write", open(file, unix.O_WRONLY)},
		{"open to read and write", open(file, unix.O_RDWR)},
		{"open to append", open(file, unix.O_WRONLY|unix.O_APPEND)},
		{"open to truncate", open(file, unix.O_WRONLY|unix.O_TRUNC)},
		{"read but truncate", open(file, unix.O_RDONLY|unix.O_TRUNC)},
		{"create", open(fresh, unix.O_CREAT|unix.O_WRONLY)},
		{"create new", open(fresh, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR)},
		{"truncate", unix.Truncate(file, 0)},
		{"chmod", unix.Chmod(file, 0o777)},
		{"chmod folder", unix.Chmod(dir, 0o777)},
		{"chown", unix.Chown(file, 1, 1)},
		{"utimes", unix.UtimesNanoAt(unix.AT_FDCWD, file, ts, 0)},
		{"mkdir", unix.Mkdir(fresh, 0o755)},
		{"mknod", unix.Mknod(fresh, unix.S_IFREG|0o644, 0)},
		{"mkfifo", unix.Mkfifo(fresh, 0o644)},
		{"symlink", unix.Symlink("target", fresh)},
		{"link", unix.Link(file, fresh)},
		{"unlink", unix.Unlink(file)},
		{"rename", unix.Rename(file, fresh)},
		{"rename over", unix.Rename(file, file+"2")},
		{"setxattr", unix.Setxattr(file, "user.other", []byte("1"), 0)},
		{"setxattr cid", unix.Setxattr(file, "user.wanderfs.cid", []byte("1"), 0)},
		{"removexattr", unix.Removexattr(file, "user.other")},
		{"access", unix.Access(file, unix.W_OK)},
		{"access folder", unix.Access(dir, unix.W_OK)},
	} {
		if c.err != unix.EROFS {
			fmt.Printf("%s: got %v, want EROFS\n", c.name, c.err)
		}
	}
	if err := unix.Access(file, unix.R_OK); err != nil {
		fmt.Println("access to read:", err)
	}
	if fd, err := unix.Open(file, unix.O_RDONLY, 0); err != nil {
		fmt.Println("open to read:", err)
	} else if err := unix.Fsync(fd); err != nil {
		fmt.Println("fsync:", err)
	}
	return 0
}

// stickyChild sits in the folder args[0] until its input ends.
func stickyChild(args []string) int {
	if err := os.Chdir(args[0]); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("here")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// mappingChild writes the file args[0] through a shared mapping.
func mappingChild(args []string) int {
	f, err := os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer f.Close()
	if err := f.Truncate(8192); err != nil {
		fmt.Println(err)
		return 1
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	copy(m, bytes.Repeat([]byte("m"), 8192))
	if err := unix.Msync(m, unix.MS_SYNC); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := unix.Munmap(m); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
