package fs_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"

	"wanderfs/fs"
	"wanderfs/fs/fusetest"
)

func TestShared(t *testing.T) {
	d, _, s := drive(t)
	back := func(name string) string {
		b, err := os.ReadFile(s.Dir() + "/" + name)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	d.Sh(t, "cd $M/shared; echo one >f; echo two >>f; printf X | dd of=f bs=1 seek=1 conv=notrunc status=none")
	want(t, "write, append, overwrite", back("f"), "oXe\ntwo\n")
	d.Sh(t, "cd $M/shared; truncate -s 3 f; truncate -s 5 f")
	want(t, "truncate", back("f"), "oXe\x00\x00")
	d.Sh(t, "cd $M/shared; echo short >f")
	want(t, "O_TRUNC", back("f"), "short\n")
	d.Sh(t, "cd $M/shared; set -C; ! echo no >f 2>/dev/null")
	want(t, "O_EXCL", back("f"), "short\n")
	d.Sh(t, "cd $M/shared; mkdir -p a/b/c; echo x >a/b/c/x; mv a/b a/B; cat a/B/c/x; echo new >n; mv n f; rm a/B/c/x; rmdir a/B/c")
	want(t, "rename over", back("f"), "new\n")
	d.Sh(t, "cd $M/shared; chmod 640 f; touch -d 2001-02-03T04:05:06Z f; chmod 700 a")
	want(t, "chmod, utimes", d.Sh(t, "TZ=UTC stat -c '%a %y' $M/shared/f"), "640 2001-02-03 04:05:06.000000000 +0000\n")
	fi, err := os.Stat(s.Dir() + "/f")
	if err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("backing file: got %v, %v", fi.Mode(), err)
	}
	d.Sh(t, "cd $M/shared; ln -s f l; readlink l; cat l; ln -s /etc/passwd abs; sync f a; fallocate -l 100000 big; test $(stat -c %s big) = 100000")
	if got, err := os.Readlink(s.Dir() + "/l"); got != "f" {
		t.Errorf("symlink: got %q, %v", got, err)
	}
	for _, script := range []string{"ln $M/shared/f $M/shared/hard", "mknod $M/shared/dev c 1 3", "mknod $M/shared/blk b 1 3"} {
		if out, status := d.Try(t, script); status == 0 || !strings.Contains(out, "not permitted") {
			t.Errorf("%s: got %q, want EPERM", script, out)
		}
	}
	if out, err := reexec(t, "mapping", d.Dir+"/shared/mapped").CombinedOutput(); err != nil {
		t.Errorf("mmap: %v: %s", err, out)
	}
	want(t, "mmap", back("mapped"), strings.Repeat("m", 8192))
	d.Sh(t, `cd $M/shared; touch "$(printf 'a\nb')" "$(printf '\377')" .hidden 'x%2Fy' "$(printf '%0255d' 0)" -- -rf ' '; ! touch "$(printf '%0256d' 0)" 2>/dev/null`)
	want(t, "names", d.Sh(t, "cd $M/shared; ls -A | wc -l"), d.Sh(t, "cd "+s.Dir()+"; ls -A | wc -l"))
	d.Sh(t, "cd $M/shared; find . -mindepth 1 -delete; test -z \"$(ls -A)\"")
	d.Sh(t, "umask 0; mkdir $M/shared/open; touch $M/shared/open/f; test $(stat -c %a $M/shared/open) = 777; test $(stat -c %a $M/shared/open/f) = 666")
}

func TestSharedTells(t *testing.T) {
	d, _, s := drive(t)
	tell := func(script string, want ...string) {
		t.Helper()
		d.Sh(t, "cd $M/shared; "+script)
		// The kernel reports the last close after close returned.
		deadline := time.Now().Add(5 * time.Second)
		var got []string
		for len(got) < len(want) && time.Now().Before(deadline) {
			got = append(got, s.Events()...)
			time.Sleep(time.Millisecond)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
	tell("echo x >f", "begin f", "wrote f", "closed f")
	tell("cat f; exec 3<>f; ls -l; chmod 600 f; touch f")
	tell("echo y >>f", "begin f", "wrote f", "closed f")
	tell("truncate -s 1 f", "begin f", "wrote f", "closed f")
	tell("mkdir d", "closed d")
	tell("mv f d/g", "renamed f d/g")
	tell("mv d e; echo z >e/g", "renamed d e", "begin e/g", "wrote e/g", "closed e/g")
	tell("ln -s g e/l", "closed e/l")
	tell("rm e/g e/l; rmdir e", "removed e/g", "removed e/l", "removed e")
	tell("exec 3>w; echo x >&3; mv w v; echo y >&3", "begin w", "wrote w", "renamed w v", "wrote v", "closed v")
}

// What somebody does behind the drive is seen after a moment.
func TestSharedBehind(t *testing.T) {
	d, _, s := drive(t)
	d.Sh(t, "echo one >$M/shared/f; mkdir $M/shared/d")
	if err := os.WriteFile(s.Dir()+"/tmp", []byte("replaced\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.Dir()+"/tmp", s.Dir()+"/f"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.Dir() + "/d"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Dir()+"/d", []byte("now a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, d, "cat $M/shared/f $M/shared/d", "replaced\nnow a file\n")
}

// Nothing outside the directory is reached, whatever it holds.
func TestSharedConfined(t *testing.T) {
	d, _, s := drive(t)
	outside := t.TempDir()
	if err := os.WriteFile(outside+"/secret", []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Sh(t, "mkdir $M/shared/d; echo inside >$M/shared/d/secret; cat $M/shared/d/secret")
	// The folder becomes a symlink behind the kernel's back: the drive must
	// not follow it while the kernel still believes in the folder.
	if err := os.Rename(s.Dir()+"/d", s.Dir()+"/e"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, s.Dir()+"/d"); err != nil {
		t.Fatal(err)
	}
	fd := filepath.Join(d.Dir, "shared/d/secret")
	out, _ := fusetest.Command(t, "cat", fd).Output()
	// The kernel itself may follow the symlink as it would on any disk; then
	// the reader, not the drive, opened the file. Root reads it either way.
	_ = out
	want(t, "type", d.Sh(t, "sleep 1.1; stat -c %F $M/shared/d"), "symbolic link\n")
}

func TestSharedFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=1m"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("no tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	d := fusetest.Mount(t, fs.Config{Library: fusetest.NewLibrary(), Share: fusetest.NewShare(small)})
	if out, status := d.Try(t, "dd if=/dev/zero of=$M/shared/f bs=64k count=64"); status == 0 || !strings.Contains(out, "No space left") {
		t.Errorf("full disk: got %q, want ENOSPC", out)
	}
	d.Sh(t, "rm $M/shared/f; echo ok >$M/shared/f")
}

// Fsync must have reached the backing file when it returns; that it is
// asked for at all is what can be seen here.
func TestSharedTools(t *testing.T) {
	d, _, _ := drive(t)
	src := t.TempDir()
	d.Sh(t, `cd `+src+`; mkdir -p t/u; seq 20000 >t/n; head -c 300000 /dev/urandom >t/u/r; ln -s ../n t/u/l
cp -a t $M/shared/; diff -r t $M/shared/t
tar cf - t | tar xf - -C $M/shared --one-top-level=tarred; diff -r t $M/shared/tarred/t
cd $M/shared; dd if=t/u/r of=o bs=4k conv=fsync status=none; cmp o t/u/r
sed -i s/1/2/ t/n; grep -q 2 t/n
flock o true
rm -rf t tarred o; test -z "$(ls -A)"`)
	if _, err := exec.LookPath("rsync"); err == nil {
		d.Sh(t, "rsync -a "+src+"/t $M/shared/; rsync -a --inplace "+src+"/t $M/shared/; diff -r "+src+"/t $M/shared/t")
	}
}

var posixDir = flag.String("posixdir", "", "run the POSIX tests in this folder")

// What differs from ext4, and why.
var posixSkip = map[string]string{
	"Link":                "hard links are refused",
	"LinkUnlinkRename":    "hard links are refused",
	"FcntlFlockLocksFile": "fails on ext4 as well",
}

func TestPosix(t *testing.T) {
	if *posixDir != "" {
		posixChild(t, *posixDir)
		return
	}
	d, _, _ := drive(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := fusetest.Command(t, exe, "-test.run=^TestPosix$", "-test.v", "-posixdir="+d.Dir+"/shared").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%d tests passed, %d skipped", strings.Count(string(out), "    --- PASS"), strings.Count(string(out), "    --- SKIP"))
	if testing.Verbose() {
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "---") || strings.Contains(line, "test.go") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}

func posixChild(t *testing.T, dir string) {
	var names []string
	for name := range posixtest.All {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			if why := posixSkip[name]; why != "" {
				t.Skip(why)
			}
			sub := filepath.Join(dir, name)
			if err := os.Mkdir(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			posixtest.All[name](t, sub)
			_ = os.RemoveAll(sub)
		})
	}
}
