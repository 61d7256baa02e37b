package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"wanderfs/fs"
	"wanderfs/node"
	"wanderfs/node/control"
)

const (
	// gcPercent lets garbage grow to four times the living heap: reads
	// through FUSE leave 256 KiB each, and a small heap would be collected
	// every few reads.
	gcPercent = 400
	// memoryLimit is the soft limit, in bytes, at which the collector works
	// harder all the same.
	memoryLimit = 1 << 30
	// stopWithin bounds how long a node takes to end.
	stopWithin = 5 * time.Second
	// firstResults bounds how long a search waits for its first results.
	firstResults = 10 * time.Second
)

func mountCommand() *cobra.Command {
	c := &cobra.Command{Use: "mount [MOUNTPOINT]", Short: "Run a node with its drive; stays in the foreground", Args: cobra.MaximumNArgs(1)}
	var s settings
	s.register(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := s.complete(c); err != nil {
			return err
		}
		at, err := mountpoint(args)
		if err != nil {
			return err
		}
		return s.serve(c.Context(), at, c.OutOrStdout(), c.ErrOrStderr())
	}
	return c
}

func relayCommand() *cobra.Command {
	c := &cobra.Command{Use: "relay", Short: "Run a node without a drive"}
	var s settings
	s.register(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := s.complete(c); err != nil {
			return err
		}
		return s.serve(c.Context(), "", c.OutOrStdout(), c.ErrOrStderr())
	}
	return c
}

// mountpoint is the argument, or ~/wanderfs.
func mountpoint(args []string) (string, error) {
	if len(args) == 1 {
		return filepath.Abs(args[0])
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", withHint(fmt.Errorf("find the mountpoint: %w", err), "name one")
	}
	return filepath.Join(home, "wanderfs"), nil
}

// serve runs a node, with a drive unless at is "", until ctx or the lifeline
// ends. Closing goes from the outside in: the drive, the socket, the node.
func (s *settings) serve(ctx context.Context, at string, out, errs io.Writer) (err error) {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	log := s.logger(errs)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.lifeline > 0 {
		s.hold(cancel)
	}
	if at != "" {
		if err := prepare(at); err != nil {
			return err
		}
	}
	n, err := node.New(ctx, s.config(at, log))
	if err != nil {
		return explainStart(err)
	}
	defer closing(&err, "close the node", n.Close)
	srv, err := control.Listen(filepath.Join(s.data, control.SocketName), controlNode{n, at}, log)
	if err != nil {
		return err
	}
	defer closing(&err, "close the control socket", srv.Close)
	if at == "" {
		fmt.Fprintln(out, "relaying; wanderfs status tells what it does, Ctrl-C ends it")
		<-ctx.Done()
		s.watchdog(0)
		return nil
	}
	drive, err := fs.Mount(ctx, fs.Config{Mountpoint: at, Library: library{n}, Share: sharedFolder{n.Share(), n}, AllowOther: s.allowOther, Private: []string{s.data, s.shared}, Log: log})
	if err != nil {
		return explainMount("mount", err)
	}
	defer closing(&err, "unmount", drive.Close)
	fmt.Fprintf(out, "mounted at %s; Ctrl-C ends it\n", at)
	select {
	case <-ctx.Done():
	case <-drive.Done():
		if err := drive.Err(); err != nil {
			s.watchdog(exitFailed)
			return withHint(fmt.Errorf("serve the drive: %w", err), "start it again")
		}
		log.Info("unmounted from outside")
	}
	s.watchdog(0)
	return nil
}

// closing runs what a defer must close and keeps the first error.
func closing(err *error, what string, f func() error) {
	if cerr := f(); cerr != nil && *err == nil {
		*err = fmt.Errorf("%s: %w", what, cerr)
	}
}

// watchdog ends the process when closing takes longer than promised. What
// was acknowledged is on disk by then; a peer that does not answer is not
// worth a hanging terminal.
func (s *settings) watchdog(status int) {
	time.AfterFunc(stopWithin-500*time.Millisecond, func() { os.Exit(status) })
}

// hold ends the node when the other end of the lifeline is closed, be it by
// the starter's death.
func (s *settings) hold(cancel context.CancelFunc) {
	rope := os.NewFile(uintptr(s.lifeline), "lifeline")
	if rope == nil {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, rope) // until its end
		cancel()
	}()
}

// prepare tells a mistake about the mountpoint before the node starts.
func prepare(at string) error {
	if err := fs.CheckMachine(); err != nil {
		return explainMount("mount", err)
	}
	if _, err := fs.CleanStale(at); err != nil {
		return explainMount("mount", err)
	}
	if err := fs.CheckMountpoint(at); err != nil && !errors.Is(err, os.ErrNotExist) {
		return explainMount("mount", err)
	}
	return nil
}

func (s *settings) config(at string, log *slog.Logger) node.Config {
	var private []string
	if at != "" {
		private = append(private, at)
	}
	cacheSize, _ := parseSize(s.cacheSize) // checked by complete
	upLimit, _ := parseSize(s.upLimit)
	effort := s.joinEffort
	if effort == 0 {
		effort = -1 // none, not the default
	}
	return node.Config{
		Data: s.data, Shared: s.shared, Listen: s.listen, Bootstrap: s.bootstrap, Network: s.network,
		Hops: s.hops, CacheSize: cacheSize, CacheKeyMemory: s.cacheKey == "memory", SessionLife: s.sessionLife,
		Reachability: s.reachability, NoRelay: s.noRelay, UpLimit: upLimit, JoinEffort: effort, Reshare: s.reshare, MDNS: s.mdns,
		NoUPnP: s.noUPnP, Lab: s.lab, Private: private, Version: version(), Log: log,
	}
}

func explainStart(err error) error {
	err = fmt.Errorf("start the node: %w", err)
	if errors.Is(err, node.ErrInUse) {
		return withHint(err, "end the other one, or name another directory with --data")
	}
	return err
}
