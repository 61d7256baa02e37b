package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fuseControl mounts the kernel's control files for FUSE connections.
func fuseControl(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		lacking(t, "mounting the FUSE control files needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("fusectl", dir, "fusectl", 0, ""); err != nil {
		lacking(t, "the FUSE control files cannot be mounted here")
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestCutConnection aborts the kernel's connection to a drive, with and without
// a program that uses it: the node says so and ends with status 1, and leaves no
// mount.
func TestCutConnection(t *testing.T) {
	control := fuseControl(t)
	for name, used := range map[string]bool{"idle": false, "used": true} {
		t.Run(name, func(t *testing.T) {
			c := lone(t, t.TempDir())
			var st unix.Stat_t
			if err := unix.Stat(c.mnt, &st); err != nil {
				t.Fatal(err)
			}
			if used {
				user := exec.Command("sleep", "600")
				user.Dir = filepath.Join(c.mnt, "hash")
				if err := user.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() {
					_ = user.Process.Kill()
					_ = user.Wait() // killed
				}()
			}
			minor := unix.Minor(st.Dev)
			if err := os.WriteFile(filepath.Join(control, fmt.Sprint(minor), "abort"), []byte("1"), 0); err != nil {
				t.Fatal(err)
			}
			select {
			case <-c.done:
			case <-time.After(time.Minute):
				c.kill()
				t.Fatal("it runs on without a drive")
			}
			if got := c.cmd.ProcessState.ExitCode(); got != exitFailed {
				t.Errorf("ended with %d, want %d", got, exitFailed)
			}
			if err := c.stop(); err == nil {
				t.Error("it ended without an error")
			}
			log, err := os.ReadFile(c.log)
			if want := "wanderfs: serve the drive: the kernel ended the connection\nhint: "; err != nil || !strings.Contains(string(log), want) {
				t.Errorf("said %q, %v, want %q", log, err, want)
			}
			if mounted(c.mnt) {
				_ = unix.Unmount(c.mnt, unix.MNT_DETACH)
				t.Error("a mount is left")
			}
			again := lone(t, filepath.Dir(c.mnt))
			if err := again.stop(); err != nil {
				t.Errorf("the next start: %v", err)
			}
		})
	}
}
