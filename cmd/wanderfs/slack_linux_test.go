package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wanderfs/node/control"
)

// TestTimersAreRelaxed looks at every thread of a node, of which the runtime
// begins some before the program does anything.
func TestTimersAreRelaxed(t *testing.T) {
	c, err := startChild(childConfig{Name: "relay", Dir: t.TempDir(), Program: build(t),
		Args: []string{"--lab", "--network", "slack", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-upnp"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	if _, err := c.await(t.Context(), "an address", func(s control.Status) bool { return len(s.Addrs) > 0 }); err != nil {
		t.Fatal(err)
	}
	pid := c.cmd.Process.Pid
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range threads {
		b, err := os.ReadFile(filepath.Join("/proc", th.Name(), "timerslack_ns"))
		if os.IsPermission(err) {
			lacking(t, "other threads' timer slack cannot be read here")
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil || got < int64(timerSlack) {
			t.Errorf("a thread has a timer slack of %q ns, want %d", b, timerSlack)
		}
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if got := strings.TrimSpace(string(name)); err != nil || got != "wanderfs" {
		t.Errorf("the process is called %q, %v, want wanderfs", got, err)
	}
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || strings.Count(string(env), relaxedPid) > 1 {
		t.Errorf("the program ran itself more than once, or %v", err)
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(args), "\x00relay\x00") {
		t.Errorf("the command line is %q, %v", args, err)
	}
}

// TestTimersOfRealTime starts a node in a real-time class, where the kernel
// takes a timer slack and sets none: it ran itself anew without end.
func TestTimersOfRealTime(t *testing.T) {
	program := build(t)
	type outcome struct {
		out []byte
		err error
	}
	ended := make(chan outcome, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		runtime.LockOSThread() // and ends with the goroutine, since its class is changed
		class := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}
		if err := unix.SchedSetAttr(0, &class, 0); err != nil {
			ended <- outcome{nil, err}
			return
		}
		out, err := exec.CommandContext(ctx, program, "relay", "--help").CombinedOutput()
		ended <- outcome{out, err}
	}()
	got := <-ended
	if errors.Is(got.err, syscall.EPERM) {
		lacking(t, "no real-time class may be used here")
	}
	if got.err != nil || len(got.out) == 0 {
		t.Errorf("got %q and %v, want the help", got.out, got.err)
	}
}
