package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"wanderfs/node/control"
)

const (
	childPoll = 50 * time.Millisecond // between looks at a child's status; ours
	childStop = 8 * time.Second       // for a child to end by itself; ours
)

// child is a wanderfs process that another one started: a relay or a mounted
// drive of the demo. It ends when the starter dies, however it dies, because
// it then sees the end of its lifeline.
type child struct {
	name   string
	data   string
	mnt    string // "" for a relay
	client *control.Client
	cmd    *exec.Cmd
	rope   *os.File // our end of the lifeline
	done   chan struct{}
	log    string
}

// childConfig says how to start a child.
type childConfig struct {
	Name    string
	Dir     string   // its own folder, made if missing
	Mount   bool     // a drive instead of a relay
	Args    []string // flags beyond --data and --lifeline
	Wrapper []string // a command that runs the program, such as ip netns exec
	Program string   // default: this one
}

func startChild(cfg childConfig) (*child, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if cfg.Program == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cfg.Program = self
	}
	c := &child{name: cfg.Name, data: filepath.Join(cfg.Dir, "data"), log: filepath.Join(cfg.Dir, "log"), done: make(chan struct{})}
	args := append(cfg.Wrapper[:len(cfg.Wrapper):len(cfg.Wrapper)], cfg.Program)
	if cfg.Mount {
		c.mnt = filepath.Join(cfg.Dir, "drive")
		if err := os.Mkdir(c.mnt, 0o700); err != nil && !errors.Is(err, os.ErrExist) { // a killed node leaves a dead mount, which cannot be looked at
			return nil, err
		}
		args = append(args, "mount", c.mnt)
	} else {
		args = append(args, "relay")
	}
	args = append(args, "--data", c.data, "--lifeline", "3")
	args = append(args, cfg.Args...)
	end, rope, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, errors.Join(err, end.Close(), rope.Close())
	}
	c.cmd = exec.Command(args[0], args[1:]...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.ExtraFiles = []*os.File{end}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the starter alone
	err = c.cmd.Start()
	_ = end.Close() // the child has its own
	_ = log.Close()
	if err != nil {
		return nil, errors.Join(err, rope.Close())
	}
	c.rope = rope
	c.client = control.Dial(filepath.Join(c.data, control.SocketName))
	go func() {
		_ = c.cmd.Wait() // how it ended is read from ProcessState
		close(c.done)
	}()
	return c, nil
}

// await waits until ok holds for the child's status.
func (c *child) await(ctx context.Context, what string, ok func(control.Status) bool) (control.Status, error) {
	tick := time.NewTicker(childPoll)
	defer tick.Stop()
	for {
		s, err := c.client.Status(ctx)
		if err == nil && ok(s) {
			return s, nil
		}
		select {
		case <-tick.C:
		case <-c.done:
			return s, fmt.Errorf("%s ended: %s", c.name, c.lastWords())
		case <-ctx.Done():
			if err == nil && s.WaitingFor != "" {
				return s, fmt.Errorf("%s: waited too long for %s: it waits for %s", c.name, what, s.WaitingFor)
			}
			return s, fmt.Errorf("%s: waited too long for %s", c.name, what)
		}
	}
}

// lastWords returns why the child crashed, or else the last line of its log.
func (c *child) lastWords() string {
	b, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, l := range lines {
		if strings.HasPrefix(l, "panic: ") || strings.HasPrefix(l, "fatal error: ") {
			return l
		}
	}
	return lines[len(lines)-1]
}

// stop asks the child to end, and kills it if it does not.
func (c *child) stop() error {
	defer c.client.Close()
	_ = c.rope.Close()
	select {
	case <-c.done:
		if s := c.cmd.ProcessState; !s.Success() {
			return fmt.Errorf("%s ended with %v: %s", c.name, s, c.lastWords())
		}
		return nil
	case <-time.After(childStop):
		_ = c.cmd.Process.Kill()
		<-c.done
		return fmt.Errorf("%s did not end by itself", c.name)
	}
}
