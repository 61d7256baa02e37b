package fs_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"wanderfs/fs"
	"wanderfs/fs/fusetest"
)

// Two users of no importance.
const (
	someone = 65534 // nobody
	another = 65533
)

// needRoot skips where this process cannot become other users.
func needRoot(t *testing.T) {
	t.Helper()
	fusetest.Need(t)
	if os.Geteuid() == 0 {
		return
	}
	const why = "becoming another user needs root"
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// openDir returns a folder that every user may reach, unlike t.TempDir, with
// the folders drive and share that belong to uid.
func openDir(t *testing.T, uid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wanderfs-users-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("fusermount3", "-uzq", dir+"/drive").Run() // of a killed process; else there is none
		_ = os.RemoveAll(dir)
	})
	for _, d := range []string{dir, dir + "/drive", dir + "/share"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(d, uid, uid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// as makes cmd run as another user, in a folder that he can reach.
func as(uid uint32, cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	cmd.Dir = "/"
	return cmd
}

// reexecAs is reexec as another user, who cannot reach the folder that the
// test's binary is in: he runs it by its open descriptor.
func reexecAs(t *testing.T, uid uint32, what string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = self.Close() })
	cmd := as(uid, reexec(t, what, args...))
	cmd.Path, cmd.ExtraFiles = "/proc/self/fd/3", []*os.File{self}
	return cmd
}

// shAs runs a script as another user; it returns what it said.
func shAs(t *testing.T, uid uint32, dir, script string) (string, error) {
	t.Helper()
	cmd := as(uid, fusetest.Command(t, "bash", "-c", script))
	cmd.Env = append(cmd.Env, "M="+dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestOrdinaryUser(t *testing.T) {
	if !private(t, "") {
		return
	}
	dir := openDir(t, someone)
	m := dir + "/drive"
	serve := func() *exec.Cmd {
		cmd := reexecAs(t, someone, "serve", m, dir+"/share")
		_, out := pipes(t, cmd)
		if line := readLine(t, out); line != "mounted" {
			t.Fatalf("child: got %q, want mounted", line)
		}
		return cmd
	}
	use := func() {
		t.Helper()
		out, err := shAs(t, someone, m, `set -e; cd $M; ls; df . | tail -n 1 | cut -d' ' -f1
echo hello >shared/a; mv shared/a shared/b; cat shared/b; stat -c %u shared/b; rm shared/b; cat status/peers; head -n 1 README.txt`)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		want(t, "script", out, "README.txt\nhash\nsearch\nshared\nstatus\nwanderfs\nhello\n65534\npeers: none\nThis is a wanderfs drive. Everything on it works with ordinary tools.\n")
	}
	first := serve()
	use()
	// Without allow-other nobody else gets in, not even root.
	if err := unix.Stat(m, &unix.Stat_t{}); err != unix.EACCES {
		t.Errorf("root at the drive of a user: got %v, want EACCES", err)
	}
	if out, err := shAs(t, another, m, "ls $M"); err == nil {
		t.Errorf("another user got in: %s", out)
	}
	// He cleans what he left dead, too, and mounts again.
	_ = first.Process.Kill()
	_ = first.Wait()
	if out, err := shAs(t, someone, m, "ls $M"); err == nil || !strings.Contains(out, "not connected") {
		t.Errorf("dead drive: got %q, %v, want ENOTCONN", out, err)
	}
	second := serve()
	use()
	_ = second.Process.Kill()
	_ = second.Wait()
}

// TestAllowOther mounts as root, who always may.
func TestAllowOther(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0)
	l := fusetest.NewLibrary()
	f := l.File([]byte("content\n"))
	d := fusetest.Mount(t, fs.Config{Mountpoint: dir + "/drive", Library: l, Share: fusetest.NewShare(dir + "/share"), AllowOther: true})
	checkOthers(t, d.Dir, f.Ref.Name())
}

// checkOthers looks at a drive of AllowOther from outside: others read what
// modes permit (also the content cid, if it is not ""), change nothing and do
// not see the status.
func checkOthers(t *testing.T, m, cid string) {
	t.Helper()
	listing := "README.txt\nhash\nsearch\nshared\nstatus\n"
	out, err := shAs(t, another, m, "ls $M")
	if err != nil || out != listing {
		t.Errorf("ls: got %q, %v, want %q", out, err, listing)
	}
	if cid != "" {
		out, err := shAs(t, another, m, "cat $M/hash/"+cid)
		if err != nil || out != "content\n" {
			t.Errorf("cat: got %q, %v, want content", out, err)
		}
	}
	for script, why := range map[string]string{
		"ls $M/status": "Permission denied", "cat $M/status/peers": "Permission denied",
		"touch $M/shared/x": "Permission denied", "mkdir $M/shared/x": "Permission denied",
		"chmod 777 $M/shared": "Operation not permitted", "rmdir $M/shared": "Read-only|Permission denied",
	} {
		out, err := shAs(t, another, m, script)
		ok := false
		for w := range strings.SplitSeq(why, "|") {
			ok = ok || strings.Contains(out, w)
		}
		if err == nil || !ok {
			t.Errorf("%s: got %q, %v, want %s", script, out, err, why)
		}
	}
}

// TestForbiddenOthers and TestPermittedOthers are about /etc/fuse.conf, which
// forbids allow-other to users until somebody writes user_allow_other there.
func TestForbiddenOthers(t *testing.T) {
	if !private(t, "# nothing\n") {
		return
	}
	dir := openDir(t, someone)
	cmd := reexecAs(t, someone, "serve", dir+"/drive", dir+"/share", "others")
	_, out := pipes(t, cmd)
	if line := readLine(t, out); !strings.Contains(line, "user_allow_other") {
		t.Errorf("got %q, want what to write into fuse.conf", line)
	}
	_ = cmd.Wait()
}

func TestPermittedOthers(t *testing.T) {
	if !private(t, "user_allow_other\n") {
		return
	}
	dir := openDir(t, someone)
	cmd := reexecAs(t, someone, "serve", dir+"/drive", dir+"/share", "others")
	in, out := pipes(t, cmd)
	if line := readLine(t, out); line != "mounted" {
		t.Fatalf("child: got %q, want mounted", line)
	}
	checkOthers(t, dir+"/drive", "")
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// private runs the calling test in a mount namespace of its own, in which
// everybody may open /dev/fuse, as on most machines, and /etc/fuse.conf holds
// conf, unless conf is "". The machine's own files stay as they are. It
// returns true there, and false in the test that was called, when it is over.
func private(t *testing.T, conf string) bool {
	t.Helper()
	needRoot(t)
	if os.Getenv(inPrivate) != "" {
		return true
	}
	if _, err := os.Stat("/etc/fuse.conf"); err != nil && conf != "" {
		t.Skip("there is no /etc/fuse.conf to cover")
	}
	cmd := reexec(t, "private", t.TempDir(), conf, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// inPrivate tells a test that it has a mount namespace of its own.
const inPrivate = "WANDERFS_FS_PRIVATE"

// privateChild, in its own mount namespace, lays a device node that all may
// open over /dev/fuse, and the text args[1] over /etc/fuse.conf, then becomes
// the test binary with the other args.
func privateChild(args []string) int {
	dir, conf := args[0], args[1]
	err := func() error {
		// Mounts and their ends must not reach the machine's namespace.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount tmpfs: %w", err)
		}
		device := dir + "/fuse"
		if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
			return fmt.Errorf("make a device: %w", err)
		}
		if err := unix.Chmod(device, 0o666); err != nil {
			return err
		}
		if err := unix.Mount(device, "/dev/fuse", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover the device: %w", err)
		}
		if conf != "" {
			if err := os.WriteFile(dir+"/fuse.conf", []byte(conf), 0o644); err != nil {
				return err
			}
			if err := unix.Mount(dir+"/fuse.conf", "/etc/fuse.conf", "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("cover fuse.conf: %w", err)
			}
		}
		env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, child+"=") })
		return unix.Exec("/proc/self/exe", append([]string{"fs.test"}, args[2:]...), append(env, inPrivate+"=1"))
	}()
	fmt.Println(err)
	return 1
}
