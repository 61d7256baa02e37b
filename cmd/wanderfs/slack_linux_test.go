package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

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
			t.Skip("other threads' timer slack cannot be read here")
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil || got < int64(timerSlack) {
			t.Errorf("a thread has a timer slack of %q ns, want %d", b, timerSlack)
		}
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(args), "\x00relay\x00") {
		t.Errorf("the command line is %q, %v", args, err)
	}
}
