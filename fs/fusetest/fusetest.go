// Package fusetest mounts a drive in a test. The drive is touched from child
// processes only: a program that reads its own FUSE mount can stop for good.
// Where FUSE is missing the test is skipped with a reason, or fails if the
// environment variable CI is set. Library is a Library in memory.
package fusetest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"wanderfs/fs"
)

// Timeout is how long one child process may take.
const Timeout = 60 * time.Second

// Need skips the test where FUSE is missing, or fails it in CI.
func Need(t testing.TB) {
	t.Helper()
	if err := fs.CheckMachine(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("FUSE is missing: %v", err)
		}
		t.Skipf("FUSE is missing: %v", err)
	}
}

// Drive is a mounted drive.
type Drive struct {
	*fs.Mounted
	Dir string
}

// Mount mounts c at c.Mountpoint, by default a fresh folder, until the test
// is over.
func Mount(t testing.TB, c fs.Config) *Drive {
	t.Helper()
	Need(t)
	if c.Mountpoint == "" {
		c.Mountpoint = filepath.Join(t.TempDir(), "drive")
	}
	m, err := fs.Mount(context.Background(), c)
	if err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
			_ = exec.Command("fusermount3", "-uz", m.Dir()).Run()
		}
	})
	return &Drive{Mounted: m, Dir: m.Dir()}
}

// Command returns a command that does not outlive the test.
func Command(t testing.TB, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.WaitDelay = time.Second
	return cmd
}

// Try runs a shell script with M set to the mountpoint, and returns what it
// printed, on both outputs, and its exit status.
func (d *Drive) Try(t testing.TB, script string) (out string, status int) {
	t.Helper()
	cmd := Command(t, "bash", "-c", script)
	cmd.Env = append(cmd.Env, "M="+d.Dir)
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run shell: %v", err)
	}
	return b.String(), cmd.ProcessState.ExitCode()
}

// Sh runs a script that must succeed, and returns what it printed.
func (d *Drive) Sh(t testing.TB, script string) string {
	t.Helper()
	out, status := d.Try(t, "set -e -o pipefail; "+script)
	if status != 0 {
		t.Fatalf("script %q: got status %d, want 0; it said:\n%s", script, status, out)
	}
	return out
}
