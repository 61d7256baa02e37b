package fs_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wanderfs/fs"
	"wanderfs/fs/fusetest"
)

// TestSignalsDuringLocalCalls is for programs whose threads get signals all
// the time, as Go's runtime sends itself to preempt goroutines: the kernel
// tells the drive of each, and an open in shared/ failed with EINTR, which no
// program expects of local files.
func TestSignalsDuringLocalCalls(t *testing.T) {
	d, l, _ := drive(t)
	f := l.File([]byte("held here"))
	dir := l.Folder("held here", fusetest.Named("f", f), fusetest.Named("g", f))
	known := "$M/hash/" + dir.Ref.Name()
	d.Sh(t, "ls -l "+known+" >/dev/null; mkdir $M/search/kept")
	cmd := reexec(t, "noisy", d.Dir, filepath.Join(d.Dir, "hash", dir.Ref.Name()))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// noisyChild makes every kind of local call on the drive args[0] and on the
// known folder args[1], while its thread gets signals without end.
func noisyChild(args []string) int {
	runtime.LockOSThread()
	shared, known := args[0]+"/shared", args[1]
	pid, tid := os.Getpid(), unix.Gettid()
	var sent atomic.Int64
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		every := time.NewTicker(20 * time.Microsecond)
		defer every.Stop()
		for {
			select {
			case <-stop:
				return
			case <-every.C:
				if unix.Tgkill(pid, tid, unix.SIGURG) == nil {
					sent.Add(1)
				}
			}
		}
	}()
	var err error
	calls := 0
	for i := 0; i < 100 && err == nil; i++ {
		var n int
		n, err = localCalls(shared, known, i)
		calls += n
	}
	close(stop)
	<-over
	fmt.Printf("%d calls, %d signals\n", calls, sent.Load())
	if err != nil || sent.Load() < 20 {
		fmt.Println(err)
		return 1
	}
	return 0
}

// localCalls returns how many calls it made and the first that did not go as
// on a local disk.
func localCalls(shared, known string, round int) (calls int, err error) {
	a, b, sub := shared+"/a", shared+"/b", shared+"/sub"+strconv.Itoa(round)
	fd := -1
	buf := make([]byte, 64<<10)
	var st unix.Stat_t
	for _, c := range []struct {
		name string
		want error
		call func() error
	}{
		{"look up what is missing", unix.ENOENT, func() error { return unix.Stat(sub, &st) }},
		{"create", nil, func() (err error) {
			fd, err = unix.Open(a, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o644)
			return err
		}},
		{"create again", unix.EEXIST, func() error {
			_, err := unix.Open(a, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o644)
			return err
		}},
		{"write", nil, func() error { _, err := unix.Write(fd, buf); return err }},
		{"fallocate", nil, func() error { return unix.Fallocate(fd, 0, 0, 128<<10) }},
		{"truncate", nil, func() error { return unix.Ftruncate(fd, 4096) }},
		{"read", nil, func() error { _, err := unix.Pread(fd, buf, 0); return err }},
		{"fstat", nil, func() error { return unix.Fstat(fd, &st) }},
		{"chmod", nil, func() error { return unix.Fchmod(fd, 0o600) }},
		{"close", nil, func() error { return unix.Close(fd) }},
		{"rename", nil, func() error { return unix.Rename(a, b) }},
		{"rename what is missing", unix.ENOENT, func() error { return unix.Rename(a, b) }},
		{"symlink", nil, func() error { return unix.Symlink("b", a) }},
		{"readlink", nil, func() error { _, err := unix.Readlink(a, buf); return err }},
		{"mkdir", nil, func() error { return unix.Mkdir(sub, 0o755) }},
		{"mkdir again", unix.EEXIST, func() error { return unix.Mkdir(sub, 0o755) }},
		{"xattr", unix.ENODATA, func() error { _, err := unix.Getxattr(b, "user.wanderfs.cid", buf); return err }},
		{"list shared", nil, func() error { return listDir(shared) }},
		{"rmdir", nil, func() error { return unix.Rmdir(sub) }},
		{"unlink", nil, func() error { return unix.Unlink(a) }},
		{"unlink again", unix.ENOENT, func() error { return unix.Unlink(a) }},
		{"statfs", nil, func() error { return unix.Statfs(shared, &unix.Statfs_t{}) }},
		{"stat of known content", nil, func() error { return unix.Stat(known+"/f", &st) }},
		{"read content that is here", nil, func() error {
			fd, err := unix.Open(known+"/f", unix.O_RDONLY|unix.O_DIRECT, 0) // not from the page cache
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			for range 10 {
				if _, err := unix.Pread(fd, buf, 0); err != nil {
					return err
				}
			}
			return nil
		}},
		{"look up what a folder lacks", unix.ENOENT, func() error { return unix.Stat(known+"/lacking", &st) }},
		{"list known content", nil, func() error { return listDir(known) }},
		{"make what cannot be", unix.EROFS, func() error { return unix.Mkdir(known+"/x", 0o755) }},
		{"list search", nil, func() error { return listDir(filepath.Dir(shared) + "/search") }},
		{"make a query again", unix.EEXIST, func() error { return unix.Mkdir(filepath.Dir(shared)+"/search/kept", 0o755) }},
	} {
		calls++
		if err := c.call(); err != c.want {
			return calls, fmt.Errorf("round %d, %s: got %v, want %v", round, c.name, err, c.want)
		}
	}
	return calls, nil
}

// listDir reads a folder without the standard library, which repeats calls.
func listDir(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 8192)
	for {
		if n, err := unix.Getdents(fd, buf); n <= 0 || err != nil {
			return err
		}
	}
}

// TestSignalEndsWait shows the other half: a wait for the network ends with
// EINTR at a signal that kills nobody.
func TestSignalEndsWait(t *testing.T) {
	whats := []string{"stat", "open", "search"}
	for range 20 {
		// The kernel asks again for what reading ahead did not get, with the
		// signal pending: that interrupt comes as soon as its request.
		whats = append(whats, "read")
	}
	for _, what := range whats {
		t.Run(what, func(t *testing.T) {
			l := fusetest.NewLibrary()
			f := l.File(make([]byte, 1<<20))
			waiting := hang(l, what)
			d := fusetest.Mount(t, fs.Config{Library: l})
			name := filepath.Join(d.Dir, "hash", f.Ref.Name())
			if what == "search" {
				name = filepath.Join(d.Dir, "search", "query")
			}
			cmd := reexec(t, "blocked", name)
			cmd.Env = append(cmd.Env, "GODEBUG=asyncpreemptoff=1") // the test's signal is the only one
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			r := bufio.NewReader(out)
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			tid, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				t.Fatal(err)
			}
			<-waiting
			start := time.Now()
			if err := unix.Tgkill(cmd.Process.Pid, tid, unix.SIGURG); err != nil {
				t.Fatal(err)
			}
			said, _ := r.ReadString('\n')
			if want := unix.EINTR.Error() + "\n"; said != want {
				t.Errorf("got %q, want %q", said, want)
			}
			// The deadlines of the drive are 10 s and more.
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("got an answer after %v, want at once", took)
			}
		})
	}
}

// blockedChild opens and reads args[0] once, and prints how that went.
func blockedChild(args []string) int {
	runtime.LockOSThread()
	fmt.Println(unix.Gettid())
	fd, err := unix.Open(args[0], unix.O_RDONLY, 0)
	if err == nil {
		buf := make([]byte, 4096)
		if _, err = unix.Read(fd, buf); err == unix.EISDIR {
			_, err = unix.Getdents(fd, buf)
		}
		_ = unix.Close(fd)
	}
	fmt.Println(err)
	return 0
}
