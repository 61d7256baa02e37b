package fs_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/fs"
	"wanderfs/fs/fusetest"
)

// hang makes the named methods wait until their context ends. It returns a
// channel that gets the name of each that begins to wait.
func hang(l *fusetest.Library, what ...string) <-chan string {
	waiting := make(chan string, 1000)
	l.SetWait(func(ctx context.Context, method string, _ chunk.Ref) error {
		if !slices.Contains(what, method) {
			return nil
		}
		waiting <- method
		<-ctx.Done()
		return ctx.Err()
	})
	return waiting
}

func TestInterrupt(t *testing.T) {
	for _, c := range []struct {
		name string
		what string
		sig  syscall.Signal
	}{
		{"SIGINT in read", "read", syscall.SIGINT}, {"SIGKILL in read", "read", syscall.SIGKILL},
		{"SIGINT in open", "open", syscall.SIGINT}, {"SIGKILL in stat", "stat", syscall.SIGKILL},
		{"SIGINT in search", "search", syscall.SIGINT},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := fusetest.NewLibrary()
			waiting := hang(l, c.what)
			d := fusetest.Mount(t, fs.Config{Library: l})
			f := l.File(make([]byte, 1<<20))
			for range 2 { // the second reader must not wait for the first
				cmd := fusetest.Command(t, "cat", d.Dir+"/hash/"+f.Ref.Name())
				if c.what == "search" {
					cmd = fusetest.Command(t, "ls", d.Dir+"/search/query")
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if c.what != "search" || len(l.Asked()) == 0 {
					<-waiting
				}
				start := time.Now()
				_ = cmd.Process.Signal(c.sig)
				_ = cmd.Wait()
				if took := time.Since(start); took > 500*time.Millisecond {
					t.Errorf("got an end after %v, want at once", took)
				}
			}
		})
	}
}

func TestStalledRead(t *testing.T) {
	l := fusetest.NewLibrary()
	hang(l, "read")
	d := fusetest.Mount(t, fs.Config{Library: l, ReadTimeout: 200 * time.Millisecond})
	f := l.File(make([]byte, 1<<20))
	path := "$M/hash/" + f.Ref.Name()
	if out, _ := d.Try(t, "cat "+path); !strings.Contains(out, "Input/output error") {
		t.Errorf("stalled read: got %q, want EIO", out)
	}
	want(t, "error", d.Sh(t, "getfattr --absolute-names --only-values -n user.wanderfs.error "+path), "no progress")
	l.SetWait(nil)
	want(t, "later", d.Sh(t, "wc -c <"+path), "1048576\n")
}

// slow is a file that arrives byte by byte.
type slow struct {
	fs.Library
	left int
}

type slowFile struct {
	fs.File
	l  *slow
	mu sync.Mutex
	n  int64
}

func (l *slow) Open(ctx context.Context, root, r chunk.Ref) (fs.File, error) {
	f, err := l.Library.Open(ctx, root, r)
	return &slowFile{File: f, l: l}, err
}

func (f *slowFile) Progress() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

func (f *slowFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	for range f.l.left {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		f.mu.Lock()
		f.n++
		f.mu.Unlock()
	}
	return f.File.ReadAt(ctx, p, off)
}

func TestSlowReadGoesOn(t *testing.T) {
	l := fusetest.NewLibrary()
	d := fusetest.Mount(t, fs.Config{Library: &slow{Library: l, left: 20}, ReadTimeout: 300 * time.Millisecond})
	f := l.File([]byte("slow\n"))
	want(t, "cat", d.Sh(t, "cat $M/hash/"+f.Ref.Name()), "slow\n")
}

func TestCloseWithBlockedReader(t *testing.T) {
	l := fusetest.NewLibrary()
	waiting := hang(l, "read")
	d := fusetest.Mount(t, fs.Config{Library: l})
	f := l.File(make([]byte, 1<<20))
	cmd := fusetest.Command(t, "cat", d.Dir+"/hash/"+f.Ref.Name())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-waiting
	closeInTime(t, d)
	if err := cmd.Wait(); err == nil {
		t.Error("cat of a closed drive: got success, want an error")
	}
}

func TestCloseWhileInUse(t *testing.T) {
	d, _, _ := drive(t)
	cmd := reexec(t, "sticky", d.Dir+"/shared")
	in, out := pipes(t, cmd)
	if line := readLine(t, out); line != "here" {
		t.Fatalf("child: got %q, want here", line)
	}
	if h := fs.Holders(d.Dir); len(h) != 1 || h[0].PID != cmd.Process.Pid {
		t.Errorf("holders: got %v, want the child", h)
	}
	if err := fs.Unmount(d.Dir); !errors.Is(err, fs.ErrBusy) {
		t.Errorf("unmount in use: got %v, want ErrBusy", err)
	}
	closeInTime(t, d)
	_ = in.Close()
	_ = cmd.Wait()
	select {
	case <-d.Done():
	case <-time.After(5 * time.Second):
		t.Error("the drive is served after its last user has gone")
	}
}

func closeInTime(t *testing.T, d *fusetest.Drive) {
	t.Helper()
	start := time.Now()
	if err := d.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("close took %v, want at most 3s", took)
	}
	if err := fs.CheckMountpoint(d.Dir); err != nil {
		t.Errorf("mountpoint after close: %v", err)
	}
}

func pipes(t *testing.T, cmd *exec.Cmd) (io.WriteCloser, io.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return in, out
}

func readLine(t *testing.T, r io.Reader) string {
	t.Helper()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("read from child: %v", err)
	}
	return strings.TrimSpace(line)
}

func TestKilledDaemon(t *testing.T) {
	fusetest.Need(t)
	dir, share := filepath.Join(t.TempDir(), "a drive"), t.TempDir()
	t.Cleanup(func() { _ = exec.Command("fusermount3", "-uzq", dir).Run() })
	serve := func() *exec.Cmd {
		cmd := reexec(t, "serve", dir, share)
		_, out := pipes(t, cmd)
		if line := readLine(t, out); line != "mounted" {
			t.Fatalf("child: got %q, want mounted", line)
		}
		return cmd
	}
	cmd := serve()
	l := fusetest.NewLibrary()
	if _, err := fs.Mount(t.Context(), fs.Config{Mountpoint: dir, Library: l}); !errors.Is(err, fs.ErrMounted) {
		t.Errorf("mount over a live drive: got %v, want ErrMounted", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := fs.CheckMountpoint(dir); !errors.Is(err, fs.ErrMounted) {
		t.Errorf("check of a dead drive: got %v, want ErrMounted", err)
	}
	d := fusetest.Mount(t, fs.Config{Mountpoint: dir, Library: l})
	want(t, "ls", d.Sh(t, `ls "$M"`), "README.txt\nhash\nsearch\nstatus\n")
	closeInTime(t, d)

	cmd = serve()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := fs.Unmount(dir); err != nil {
		t.Errorf("unmount of a dead drive: %v", err)
	}
	if err := fs.Unmount(dir); !errors.Is(err, fs.ErrNotMounted) {
		t.Errorf("second unmount: got %v, want ErrNotMounted", err)
	}
}

func TestMountRefuses(t *testing.T) {
	fusetest.Need(t)
	l := fusetest.NewLibrary()
	full := t.TempDir()
	if err := os.WriteFile(full+"/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	share := t.TempDir()
	empty := t.TempDir()
	for _, c := range []struct {
		name string
		c    fs.Config
		want error
	}{
		{"not empty", fs.Config{Mountpoint: full}, fs.ErrNotEmpty},
		{"a file", fs.Config{Mountpoint: full + "/x"}, fs.ErrNotThere},
		{"no name", fs.Config{}, fs.ErrNotThere},
		{"in shared", fs.Config{Mountpoint: share + "/sub", Share: fusetest.NewShare(share)}, fs.ErrOverlap},
		{"over private", fs.Config{Mountpoint: empty, Private: []string{empty + "/data"}}, fs.ErrOverlap},
	} {
		c.c.Library = l
		m, err := fs.Mount(t.Context(), c.c)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		var me *fs.MountError
		if !errors.As(err, &me) || me.Hint == "" {
			t.Errorf("%s: got no hint", c.name)
		}
		if m != nil {
			_ = m.Close()
		}
	}
	t.Setenv("PATH", t.TempDir())
	if err := fs.CheckMachine(); !errors.Is(err, fs.ErrNoFuse) {
		t.Errorf("without fuse3: got %v, want ErrNoFuse", err)
	}
}

func TestUnmountedByUser(t *testing.T) {
	d, _, _ := drive(t)
	if err := fs.Unmount(d.Dir); err != nil {
		t.Fatalf("unmount: %v", err)
	}
	<-d.Done()
	if err := d.Err(); err != nil {
		t.Errorf("serving ended: got %v, want nil", err)
	}
	closeInTime(t, d)
	closeInTime(t, d)
}

// asked counts the reads that reach the files of a Library.
type asked struct {
	fs.Library
	n atomic.Int32
}

type askedFile struct {
	fs.File
	l *asked
}

func (l *asked) Open(ctx context.Context, root, r chunk.Ref) (fs.File, error) {
	f, err := l.Library.Open(ctx, root, r)
	return askedFile{f, l}, err
}

func (f askedFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	f.l.n.Add(1)
	return f.File.ReadAt(ctx, p, off)
}

// TestStalledReadWaitsOnce is for the kernel, which asks once more for each
// page that reading ahead did not get: a program waited for the deadline
// twice and more.
func TestStalledReadWaitsOnce(t *testing.T) {
	l := fusetest.NewLibrary()
	hang(l, "read")
	a := &asked{Library: l}
	d := fusetest.Mount(t, fs.Config{Library: a, ReadTimeout: 200 * time.Millisecond})
	f := l.File(make([]byte, 1<<20))
	if out, _ := d.Try(t, "cat $M/hash/"+f.Ref.Name()); !strings.Contains(out, "Input/output error") {
		t.Errorf("stalled read: got %q, want EIO", out)
	}
	if got := a.n.Load(); got != 1 {
		t.Errorf("the library was asked %d times, want once", got)
	}
}
