package fs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// MountError is an error of mounting with what the user can do about it.
type MountError struct {
	Err  error
	Hint string // may be empty
}

func (e *MountError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *MountError) Unwrap() error { return e.Err }

// What hinders a mount; found in a *MountError with errors.Is.
var (
	ErrNoFuse     = errors.New("fuse3 is not installed")
	ErrNoDevice   = errors.New("/dev/fuse cannot be opened")
	ErrMounted    = errors.New("something is mounted there already")
	ErrNotEmpty   = errors.New("the mountpoint is not empty")
	ErrNotThere   = errors.New("the mountpoint cannot be used")
	ErrOverlap    = errors.New("the mountpoint and a directory of the program lie in one another")
	ErrBusy       = errors.New("programs still use the drive")
	ErrNotMounted = errors.New("nothing is mounted there")
)

const (
	hintDevice = "load the module with `modprobe fuse`, or let this user open /dev/fuse (in a container: --device /dev/fuse --cap-add SYS_ADMIN)"
	probeTime  = 2 * time.Second
)

// CheckMachine reports whether this machine can mount at all: fusermount3
// and /dev/fuse.
func CheckMachine() error {
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return &MountError{Err: ErrNoFuse, Hint: "install it: apt-get install fuse3"}
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return &MountError{Err: fmt.Errorf("%w: %w", ErrNoDevice, syscallErr(err)), Hint: hintDevice}
	}
	return f.Close()
}

func syscallErr(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

// prepare checks everything that can be checked before mounting.
func prepare(ctx context.Context, c *Config) (string, error) {
	if err := CheckMachine(); err != nil {
		return "", err
	}
	dir, err := canonical(c.Mountpoint)
	if err != nil {
		return "", err
	}
	if _, err := CleanStale(dir); err != nil {
		return "", err
	}
	if mountAt(dir) == nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", &MountError{Err: fmt.Errorf("%w: %w", ErrNotThere, syscallErr(err)), Hint: "choose a folder of your own"}
		}
	}
	if err := CheckMountpoint(dir); err != nil {
		return "", err
	}
	private := c.Private
	if c.Share != nil {
		private = append([]string{c.Share.Dir()}, private...)
	}
	for _, p := range private {
		p, err := canonical(p)
		if err == nil && (within(p, dir) || within(dir, p)) {
			return "", &MountError{Err: ErrOverlap, Hint: "choose another mountpoint"}
		}
	}
	return dir, ctx.Err()
}

func within(dir, top string) bool {
	return dir == top || strings.HasPrefix(dir, strings.TrimSuffix(top, "/")+"/")
}

// canonical resolves symlinks above the last part only: the last may be a
// dead mount, which must not be touched.
func canonical(dir string) (string, error) {
	if dir == "" {
		return "", &MountError{Err: ErrNotThere, Hint: "name a mountpoint"}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if up, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		dir = filepath.Join(up, filepath.Base(dir))
	}
	if mountAt(dir) != nil {
		return dir, nil
	}
	if fi, err := os.Lstat(dir); err == nil && fi.Mode()&os.ModeSymlink != 0 {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return real, nil
		}
	}
	return dir, nil
}

// CheckMountpoint reports why nothing can be mounted at mountpoint, nil if
// nothing hinders. A folder that is missing hinders.
func CheckMountpoint(mountpoint string) error {
	dir, err := canonical(mountpoint)
	if err != nil {
		return err
	}
	if mountAt(dir) != nil {
		if err := probe(dir); errors.Is(err, syscall.ENOTCONN) {
			return &MountError{Err: fmt.Errorf("%w: a drive that has died", ErrMounted), Hint: "wanderfs umount " + dir}
		}
		return &MountError{Err: ErrMounted, Hint: "wanderfs umount " + dir}
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return &MountError{Err: fmt.Errorf("%w: %w", ErrNotThere, syscallErr(err)), Hint: "make it: mkdir -p " + dir}
	}
	if len(names) > 0 {
		return &MountError{Err: ErrNotEmpty, Hint: "choose an empty folder, or one that does not exist yet"}
	}
	if fi, err := os.Stat(dir); err == nil && os.Geteuid() != 0 {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
			return &MountError{Err: fmt.Errorf("%w: it belongs to another user", ErrNotThere), Hint: "choose a folder of your own"}
		}
	}
	return nil
}

// CleanStale removes mounts at mountpoint whose process has died, and says
// whether there were any. What lives is left alone, which is no error.
func CleanStale(mountpoint string) (cleaned bool, err error) {
	dir, err := canonical(mountpoint)
	if err != nil {
		return false, err
	}
	for range 8 { // root can mount over a dead mount
		mi := mountAt(dir)
		if mi == nil || !strings.HasPrefix(mi.fstype, "fuse") || !errors.Is(probe(dir), syscall.ENOTCONN) {
			return cleaned, nil
		}
		if err := fusermount(dir, "-u"); err != nil {
			if err := fusermount(dir, "-uz"); err != nil {
				return cleaned, &MountError{Err: fmt.Errorf("clean a dead mount: %w", err), Hint: "fusermount3 -uz " + dir}
			}
		}
		cleaned = true
	}
	return cleaned, nil
}

// Unmount unmounts what is at mountpoint, also a dead drive. While programs
// use it the answer is ErrBusy; Holders tells which.
func Unmount(mountpoint string) error {
	dir, err := canonical(mountpoint)
	if err != nil {
		return err
	}
	mi := mountAt(dir)
	if mi == nil {
		return &MountError{Err: ErrNotMounted}
	}
	if !strings.HasPrefix(mi.fstype, "fuse") {
		return &MountError{Err: fmt.Errorf("%w: not a drive of ours", ErrMounted)}
	}
	if cleaned, err := CleanStale(dir); cleaned || err != nil {
		return err
	}
	err = fusermount(dir, "-u")
	if err != nil && mountAt(dir) != nil {
		hint := "close the programs that use it"
		for _, h := range Holders(dir) {
			hint += fmt.Sprintf("; %s (%d)", h.Command, h.PID)
		}
		return &MountError{Err: fmt.Errorf("%w: %w", ErrBusy, err), Hint: hint}
	}
	return nil
}

// probe asks for the state of a mount from a thread of its own, for a drive
// that hangs would hang the caller.
func probe(dir string) error {
	got := make(chan error, 1)
	go func() { // ends with the call; a hanging foreign drive keeps it until that ends
		var st syscall.Statfs_t
		got <- syscall.Statfs(dir, &st)
	}()
	select {
	case err := <-got:
		return err
	case <-time.After(probeTime):
		return syscall.ETIMEDOUT
	}
}

func fusermount(dir, how string) error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fusermount3", how, "--", dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if text := string(bytes.TrimSpace(out)); text != "" {
		return errors.New(text)
	}
	return fmt.Errorf("fusermount3: %w", err)
}

// mountInfo is one line of /proc/self/mountinfo.
type mountInfo struct {
	dev    string // major:minor
	dir    string
	fstype string
}

// mountAt returns the topmost mount at dir, nil if there is none. It reads
// only the kernel's table.
func mountAt(dir string) *mountInfo {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var found *mountInfo
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if mi := parseMountInfo(sc.Text()); mi != nil && mi.dir == dir {
			found = mi
		}
	}
	return found
}

func parseMountInfo(line string) *mountInfo {
	before, after, ok := strings.Cut(line, " - ")
	f, g := strings.Fields(before), strings.Fields(after)
	if !ok || len(f) < 6 || len(g) < 1 {
		return nil
	}
	return &mountInfo{dev: f[2], dir: unoctal(f[4]), fstype: g[0]}
}

// unoctal undoes the kernel's \040 for a space.
func unoctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Holder is a program that uses a drive.
type Holder struct {
	PID     int
	Command string
}

// Holders lists the programs with a working directory or an open file below
// mountpoint, as far as this user may see. It does not touch the drive.
func Holders(mountpoint string) []Holder {
	dir, err := canonical(mountpoint)
	if err != nil {
		return nil
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	var all []Holder
	for _, p := range procs {
		links, _ := filepath.Glob(p + "/fd/*")
		for _, l := range append(links, p+"/cwd", p+"/root", p+"/exe") {
			if to, err := os.Readlink(l); err == nil && within(to, dir) {
				pid, _ := strconv.Atoi(filepath.Base(p))
				comm, _ := os.ReadFile(p + "/comm")
				all = append(all, Holder{PID: pid, Command: strings.TrimSpace(string(comm))})
				break
			}
		}
	}
	return all
}
