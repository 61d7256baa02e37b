package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bazil.org/fuse"
	"golang.org/x/sys/unix"
)

// Config says what to mount where. Mountpoint and Library are needed, all
// else has a default.
type Config struct {
	Mountpoint string  // made if it is missing
	Library    Library // content and search
	Share      Share   // behind shared/; nil: no shared/
	AllowOther bool    // let other users in, as far as modes permit
	Log        *slog.Logger

	LookupTimeout time.Duration // for an unknown CID, an open, a folder; 10 s
	SearchTimeout time.Duration // for first results; 10 s
	ReadTimeout   time.Duration // of a read without progress; 30 s
	MaxListing    int           // names in one folder; 1 Mi
	Readme        string        // text of README.txt; a general one
	Private       []string      // directories of the program that must not lie below the mountpoint
}

func (c *Config) fill() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&c.LookupTimeout, 10*time.Second)
	def(&c.SearchTimeout, 10*time.Second)
	def(&c.ReadTimeout, 30*time.Second)
	if c.MaxListing <= 0 {
		c.MaxListing = 1 << 20
	}
	if c.Readme == "" {
		c.Readme = defaultReadme
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Mounted is a drive in use.
type Mounted struct {
	dir  string
	dev  string // of the mount, as the kernel's table has it
	t    *tree
	done chan struct{}
	log  *slog.Logger

	mu  sync.Mutex
	err error // guarded by mu; why serving ended

	closing sync.Once
	closed  error
}

// Mount makes the drive appear at c.Mountpoint and serves it until Close, or
// until somebody unmounts it. A dead mount that an earlier run left there is
// cleaned; a live one, or a folder with something in it, is refused. Errors
// are *MountError where something can be done about them.
func Mount(ctx context.Context, c Config) (*Mounted, error) {
	if c.Library == nil {
		return nil, errors.New("mount: no library")
	}
	c.fill()
	dir, err := prepare(ctx, &c)
	if err != nil {
		return nil, err
	}
	t, err := newTree(c)
	if err != nil {
		return nil, err
	}
	conn, err := mount(dir, c.AllowOther)
	if err != nil {
		t.cancel()
		t.release()
		return nil, err
	}
	t.server = newServer(conn, t)
	m := &Mounted{dir: dir, t: t, done: make(chan struct{}), log: c.Log}
	if mi := mountAt(dir); mi != nil {
		m.dev = mi.dev
	}
	go func() { // ends when the kernel is done with the mount; Close waits for it
		err := t.server.serve()
		if err == nil && t.ctx.Err() == nil && m.inTable() {
			err = ErrCut
		}
		m.mu.Lock()
		m.err = err
		m.mu.Unlock()
		t.close()
		t.release()
		_ = conn.Close()
		close(m.done)
	}()
	readAhead(dir)
	return m, nil
}

// ErrCut says that the kernel ended the connection to the drive without an
// unmount: somebody aborted it. The drive must be mounted anew.
var ErrCut = errors.New("the kernel ended the connection")

// inTable reports whether the drive is at its mountpoint, dead or alive.
func (m *Mounted) inTable() bool {
	mi := mountAt(m.dir)
	return mi != nil && mi.dev == m.dev
}

// Dir is the mountpoint, absolute.
func (m *Mounted) Dir() string { return m.dir }

// Done is closed when the drive is gone, whoever unmounted it.
func (m *Mounted) Done() <-chan struct{} { return m.done }

// Err tells why serving ended, nil for an unmount. It may be asked after Done.
func (m *Mounted) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

const (
	patience = 500 * time.Millisecond // between an unmount and a lazy one
	atLast   = 2 * time.Second        // for what hangs after that
)

// Close ends all waits, unmounts and returns when the drive is gone, at the
// latest after three seconds. Programs that still have files open there
// get errors. It may be called twice.
func (m *Mounted) Close() error {
	m.closing.Do(func() { m.closed = m.close() })
	return m.closed
}

func (m *Mounted) close() error {
	m.t.cancel() // first, or readers that wait would keep the mount busy
	deadline := time.Now().Add(patience)
	for {
		err := fusermount(m.dir, "-u")
		if err == nil || m.gone(0) && !m.inTable() {
			break
		}
		if time.Now().After(deadline) {
			abort(m.dir)
			if err := fusermount(m.dir, "-uz"); err != nil && (!m.gone(50*time.Millisecond) || m.inTable()) {
				return err
			}
			break
		}
		if m.gone(50*time.Millisecond) && !m.inTable() {
			break
		}
	}
	if !m.gone(atLast) {
		m.log.Info("drive is unmounted, programs still use it")
	}
	return nil
}

func (m *Mounted) gone(wait time.Duration) bool {
	select {
	case <-m.done:
		return true
	case <-time.After(wait):
		return false
	}
}

// mountLog serialises the catching of the library's log.
var mountLog sync.Mutex

// mount asks fusermount3. The library tells what hindered only in the
// standard logger, so that is listened to for this moment.
func mount(dir string, allowOther bool) (*fuse.Conn, error) {
	opts := []fuse.MountOption{
		fuse.FSName("wanderfs"), fuse.Subtype("wanderfs"),
		fuse.MaxReadahead(128 << 10), // without it every read is of 4 KiB
		fuse.MaxBackground(64), fuse.CongestionThreshold(48),
		fuse.CacheSymlinks(),
	}
	if allowOther {
		// Modes are only looked at with DefaultPermissions; without
		// AllowOther nobody but the owner gets in.
		opts = append(opts, fuse.AllowOther(), fuse.DefaultPermissions())
	}
	mountLog.Lock()
	defer mountLog.Unlock()
	var said bytes.Buffer
	old := log.Writer()
	log.SetOutput(&said)
	conn, err := fuse.Mount(dir, opts...)
	log.SetOutput(old)
	if err == nil {
		return conn, nil
	}
	return nil, explain(err, said.String())
}

// readAhead raises the kernel's read-ahead for the drive where this process
// may (root). It never touches the drive itself.
func readAhead(dir string) {
	if mi := mountAt(dir); mi != nil {
		_ = os.WriteFile(filepath.Join("/sys/class/bdi", mi.dev, "read_ahead_kb"), []byte("1024"), 0)
	}
}

// abort cuts the kernel's connection, where this process may, so that nobody
// hangs on a drive that is gone.
func abort(dir string) {
	mi := mountAt(dir)
	if mi == nil || !strings.HasPrefix(mi.fstype, "fuse") {
		return
	}
	if os.Geteuid() == 0 {
		_ = unix.Unmount(dir, unix.MNT_FORCE) // aborts first, then finds it busy
		return
	}
	if _, minor, ok := strings.Cut(mi.dev, ":"); ok {
		_ = os.WriteFile("/sys/fs/fuse/connections/"+minor+"/abort", []byte("1"), 0)
	}
}

// explain makes something to act on of what fusermount3 said.
func explain(err error, said string) error {
	var lines []string
	for line := range strings.Lines(said) {
		_, text, _ := strings.Cut(strings.TrimSpace(line), "fusermount3: ")
		if text != "" {
			lines = append(lines, text)
		}
	}
	text := strings.Join(lines, "; ")
	hint := ""
	switch {
	case strings.Contains(text, "user_allow_other"):
		hint = "add a line user_allow_other to /etc/fuse.conf, or leave --allow-other away"
	case strings.Contains(text, "/dev/fuse"):
		hint = hintDevice
	case strings.Contains(text, "Permission denied"), strings.Contains(text, "Operation not permitted"):
		hint = "mount below your home directory; a security profile (AppArmor) or a container may forbid other places"
	}
	if text == "" {
		text = err.Error()
	}
	return &MountError{Err: fmt.Errorf("mount: %s", text), Hint: hint}
}
