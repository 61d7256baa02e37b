package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"wanderfs/fs"
	"wanderfs/node"
	"wanderfs/node/control"
)

// finding is what one check says.
type finding struct {
	what  string
	state string // ok, note or bad
	text  string
	hint  string
	fix   func(ctx context.Context) error // nil: a person must do it
}

func good(what, text string) finding { return finding{what: what, state: "ok", text: text} }

func doctorCommand() *cobra.Command {
	c := &cobra.Command{Use: "doctor", Short: "Check this machine; say, or do, what helps"}
	data := dataFlag(c)
	at := c.Flags().String("mountpoint", "", "the mountpoint to check (default ~/wanderfs)")
	fix := c.Flags().Bool("fix", false, "do what helps")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var args []string
		if *at != "" {
			args = []string{*at}
		}
		point, err := mountpoint(args)
		if err != nil {
			return err
		}
		out := c.OutOrStdout()
		bad := 0
		for _, check := range []func() finding{
			func() finding { return checkFuse(out) },
			checkDevice,
			func() finding { return checkMountpoint(c.Context(), point, *data) },
			func() finding { return checkData(*data) },
			func() finding { return checkPort(c.Context(), *data) },
			checkClock,
			func() finding { return checkNode(c.Context(), *data) },
		} {
			f := check()
			if f.state == "bad" && *fix && f.fix != nil {
				if err := f.fix(c.Context()); err != nil {
					f.text += "; mending it failed: " + err.Error()
				} else {
					f = check()
				}
			}
			f.print(out)
			if f.state == "bad" {
				bad++
			}
		}
		if bad > 0 {
			return withHint(fmt.Errorf("doctor: %d of the checks failed", bad), "wanderfs doctor --fix does what can be done by itself")
		}
		return nil
	}
	return c
}

func (f finding) print(w io.Writer) {
	fmt.Fprintf(w, "%-5s %-12s %s\n", f.state, f.what, f.text)
	if f.hint != "" && f.state != "ok" {
		fmt.Fprintf(w, "      %-12s hint: %s\n", "", f.hint)
	}
}

func checkFuse(out io.Writer) finding {
	p, err := exec.LookPath("fusermount3")
	if err != nil {
		return finding{"fuse3", "bad", "fusermount3 is not installed", strings.Join(installLine(), " "), func(ctx context.Context) error {
			return needFuse(ctx, true, nil, out)
		}}
	}
	info, err := os.Stat(p)
	if err != nil {
		return finding{what: "fuse3", state: "bad", text: err.Error()}
	}
	if os.Geteuid() != 0 && info.Mode()&os.ModeSetuid == 0 {
		return finding{what: "fuse3", state: "bad", text: "fusermount3 is not setuid root, so only root can mount", hint: "reinstall fuse3"}
	}
	return good("fuse3", p)
}

func checkDevice() finding {
	err := fs.CheckMachine()
	if errors.Is(err, fs.ErrNoDevice) {
		return mountFinding("/dev/fuse", err, nil)
	}
	return good("/dev/fuse", "can be opened")
}

func checkMountpoint(ctx context.Context, at, data string) finding {
	client := dial(data)
	defer client.Close()
	if s, err := client.Status(ctx); err == nil && s.Drive.Mountpoint == at {
		return good("mountpoint", at+" is this node's drive")
	}
	err := fs.CheckMountpoint(at)
	switch {
	case err == nil:
		return good("mountpoint", at)
	case errors.Is(err, os.ErrNotExist):
		return good("mountpoint", at+" will be made")
	}
	return mountFinding("mountpoint", err, func(context.Context) error {
		_, err := fs.CleanStale(at)
		return err
	})
}

func mountFinding(what string, err error, fix func(context.Context) error) finding {
	f := finding{what: what, state: "bad", text: err.Error(), fix: fix}
	var m *fs.MountError
	if errors.As(err, &m) {
		f.hint = m.Hint
	}
	return f
}

func checkData(data string) finding {
	var st syscall.Statfs_t
	dir := data
	for syscall.Statfs(dir, &st) != nil && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return finding{what: "data", state: "bad", text: "cannot write to " + dir, hint: "name another directory with --data"}
	}
	free := int64(st.Bavail) * st.Bsize
	if free < 1<<30 {
		return finding{what: "data", state: "note", text: "only " + bytes(free) + " free in " + dir, hint: "a smaller --cache-size, or another --data"}
	}
	return good("data", fmt.Sprintf("%s, %s free", data, bytes(free)))
}

// checkPort looks whether the node can listen where it did last: others know
// that port, and a router may forward it.
func checkPort(ctx context.Context, data string) finding {
	client := dial(data)
	defer client.Close()
	if s, err := client.Status(ctx); err == nil {
		if len(s.Addrs) == 0 && s.Reachability == "public" {
			return finding{what: "port", state: "note", text: "the node listens nowhere", hint: "check --listen"}
		}
		return good("port", "held by the running node")
	}
	port, ok := node.LastPort(data)
	if !ok {
		return good("port", "one will be chosen at the first start")
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return finding{what: "port", state: "note", text: fmt.Sprintf("TCP %d, where the node listened last, is taken", port),
			hint: "end the other program, or the node moves to another port and has to be found anew"}
	}
	_ = l.Close() // it was only to see
	return good("port", fmt.Sprintf("TCP %d is free", port))
}

// checkClock asks the kernel whether something keeps its clock right. Signed
// records of others look expired to a clock that is hours off.
func checkClock() finding {
	now := time.Now()
	if now.Year() < 2026 {
		return finding{what: "clock", state: "bad", text: "it says " + now.Format(time.DateOnly), hint: "set it, or install systemd-timesyncd or chrony"}
	}
	state, err := unix.Adjtimex(&unix.Timex{})
	if err != nil || state == unix.TIME_ERROR {
		return finding{what: "clock", state: "note", text: "nothing synchronises it, as far as the kernel knows", hint: "install systemd-timesyncd or chrony"}
	}
	return good("clock", "synchronised")
}

func checkNode(ctx context.Context, data string) finding {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client := dial(data)
	defer client.Close()
	s, err := client.Status(ctx)
	if err != nil {
		return finding{what: "node", state: "note", text: "not running", hint: "wanderfs mount starts it; then ask the doctor again about reachability"}
	}
	if !s.Ready {
		return finding{what: "node", state: "note", text: "waits for " + s.WaitingFor, hint: hintFor(s)}
	}
	text := fmt.Sprintf("ready, %d relays known, reachability %s", s.RelaysKnown, s.Reachability)
	if s.Reachability == "private" {
		return finding{what: "node", state: "note", text: text, hint: "everything works; forwarding its TCP port would let it help more"}
	}
	return good("node", text)
}

// hintFor says what helps a node that waits.
func hintFor(s control.Status) string {
	if s.Peers == 0 {
		return "name a node to start from with --bootstrap; check that this machine is online"
	}
	return "wait a little: relays are being learned"
}
