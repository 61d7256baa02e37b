package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"wanderfs/node/control"
)

// stateEvery is how often share looks whether a CID is known. ours
const stateEvery = 100 * time.Millisecond

func shareCommand() *cobra.Command {
	c := &cobra.Command{Use: "share PATH...", Short: "Copy into shared, and so publish; print CIDs", Args: cobra.MinimumNArgs(1)}
	data := dataFlag(c)
	link := c.Flags().Bool("link", false, "publish in place, without a copy")
	c.RunE = func(c *cobra.Command, args []string) error {
		client := dial(*data)
		defer client.Close()
		s, err := client.Status(c.Context())
		if err != nil {
			return explain("share", err)
		}
		for _, name := range args {
			abs, err := filepath.Abs(name)
			if err != nil {
				return fmt.Errorf("share: %w", err)
			}
			var shared string
			if *link {
				shared, err = client.Link(c.Context(), abs)
			} else {
				shared, err = copyIn(c.Context(), s.Shared.Dir, abs)
			}
			if err != nil {
				return explain("share "+name, err)
			}
			cid, err := waitCID(c.Context(), client, shared)
			if err != nil {
				return explain("share "+name, err)
			}
			fmt.Fprintln(c.OutOrStdout(), cid, name)
		}
		return nil
	}
	return c
}

// waitCID waits until the shared name is hashed.
func waitCID(ctx context.Context, client *control.Client, name string) (string, error) {
	tick := time.NewTicker(stateEvery)
	defer tick.Stop()
	for {
		st, err := client.ShareState(ctx, name)
		switch {
		case err != nil:
			return "", err
		case st.Phase == "error":
			return "", errors.New(st.Err)
		case st.Phase == "kept":
			return "", withHint(errors.New("a hidden or temporary name is never published"), "rename the file")
		case st.CID != "":
			return st.CID, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// copyIn copies the file or folder at abs into dir under a hidden name and
// then gives it its own, so that nothing half is published. What is there
// already under that name is left alone.
func copyIn(ctx context.Context, dir, abs string) (string, error) {
	name := filepath.Base(abs)
	dst := filepath.Join(dir, name)
	if _, err := os.Lstat(dst); err == nil {
		return "", withHint(errors.New("there is something of that name in shared"), "remove or rename it, or rename the new one")
	}
	info, err := os.Stat(abs)
	if err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(dir, ".share-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	half := filepath.Join(tmp, "copy")
	if info.IsDir() {
		err = os.CopyFS(half, os.DirFS(abs))
	} else {
		err = copyFile(ctx, half, abs)
	}
	if err != nil {
		return "", err
	}
	return name, os.Rename(half, dst)
}

func copyFile(ctx context.Context, dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	if info, err := in.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, errors.New("neither a file nor a folder"))
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { in.Close() })
	defer stop()
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	if err := out.Sync(); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}
