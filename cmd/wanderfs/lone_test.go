package main

import (
	stdbytes "bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wanderfs/node/control"
)

// lone starts a drive that knows nobody, in dir, and waits until it is there.
func lone(t *testing.T, dir string) *child {
	t.Helper()
	if !haveFuse() {
		lacking(t, "fuse3 is not installed")
	}
	c, err := startChild(childConfig{Name: "lone", Dir: dir, Mount: true, Program: build(t),
		Args: []string{"--lab", "--network", "lone", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-upnp"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.await(ctx, "its drive", func(s control.Status) bool { return mounted(c.mnt) }); err != nil {
		c.kill()
		t.Fatal(err)
	}
	return c
}

// mounted tells whether the kernel's table names dir; it does not look into
// the drive.
func mounted(dir string) bool {
	b, err := os.ReadFile("/proc/self/mounts")
	return err == nil && strings.Contains(string(b), " "+dir+" fuse")
}

// said runs a command of the program and returns what it printed.
func said(t *testing.T, args ...string) (text string, status int) {
	t.Helper()
	var out stdbytes.Buffer
	status = run(t.Context(), args, &out, &out)
	return out.String(), status
}

// TestLoneDrive is a first start without a network, and everything that goes
// wrong around it.
func TestLoneDrive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := lone(t, dir)
	stopped := false
	defer func() {
		if !stopped {
			if err := c.stop(); err != nil {
				t.Error(err)
			}
		}
	}()

	text, _ := said(t, "doctor", "--data", c.data, "--mountpoint", c.mnt)
	if !strings.Contains(text, "is this node's drive") {
		t.Errorf("the doctor does not know the node's own drive:\n%s", text)
	}
	if !strings.Contains(text, "--bootstrap") {
		t.Errorf("the doctor does not say how a lone node finds others:\n%s", text)
	}
	if text, status := said(t, "status", "--data", c.data); status != 0 || !strings.Contains(text, "--bootstrap") {
		t.Errorf("status %d does not say how to get a peer:\n%s", status, text)
	}
	if text, status := said(t, "mount", filepath.Join(dir, "other"), "--data", c.data); status != 1 || !strings.Contains(text, "hint: ") {
		t.Errorf("a second node on the same data ended with %d:\n%s", status, text)
	}

	// A local folder works without any network.
	if err := os.WriteFile(filepath.Join(c.mnt, "shared", "kept"), []byte("kept"), 0o600); err != nil {
		t.Error(err)
	}
	start := time.Now()
	_, err := os.ReadFile(filepath.Join(c.mnt, "hash", "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"))
	if !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("reading what nobody has: got %v after %v, want ETIMEDOUT", err, time.Since(start))
	}

	// Killed, it leaves a dead mount; the next start takes it over.
	c.kill()
	if _, err := os.Stat(c.mnt); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("a killed node's drive: got %v, want ENOTCONN", err)
	}
	c = lone(t, dir)
	got, err := os.ReadFile(filepath.Join(c.mnt, "shared", "kept"))
	if err != nil || string(got) != "kept" {
		t.Errorf("after the kill: got %q, %v", got, err)
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	stopped = true
	if mounted(c.mnt) {
		t.Error("a stopped node left its mount")
	}
}

// TestDoctorFindsATakenPort holds the port that a node remembers.
func TestDoctorFindsATakenPort(t *testing.T) {
	data := t.TempDir()
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if err := os.WriteFile(filepath.Join(data, "port"), []byte(port+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := checkPort(t.Context(), data); f.state != "note" || !strings.Contains(f.text, port) {
		t.Errorf("port taken: got %+v", f)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if f := checkPort(t.Context(), data); f.state != "ok" {
		t.Errorf("port free: got %+v", f)
	}
	if f := checkPort(t.Context(), t.TempDir()); f.state != "ok" {
		t.Errorf("never started: got %+v", f)
	}
}
