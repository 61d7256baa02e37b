package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"wanderfs/cache/chunk"
	"wanderfs/node/control"
)

const (
	partSuffix = ".wanderfs-part"
	retryEvery = 2 * time.Second // between tries of --wait; ours
	maxDepth   = 64              // folders inside folders; ours
)

func getCommand() *cobra.Command {
	c := &cobra.Command{Use: "get CID [-o PATH]", Short: "Fetch a file or folder", Args: cobra.ExactArgs(1)}
	data := dataFlag(c)
	out := c.Flags().StringP("output", "o", "", "where to put it (default ./CID); - is standard output, for a file")
	wait := c.Flags().Bool("wait", false, "wait until a source appears")
	c.RunE = func(c *cobra.Command, args []string) error {
		root, err := chunk.Parse(args[0])
		var misspelt *chunk.MisspeltError
		switch {
		case errors.As(err, &misspelt):
			return withHint(usagef("get: the argument is not spelt as a CID"), "did you mean "+misspelt.Right.Name())
		case err != nil:
			return usagef("get: the argument is no CID that wanderfs can read")
		}
		client := dial(*data)
		defer client.Close()
		g := &getter{client: client, root: root, wait: *wait, errs: c.ErrOrStderr()}
		defer g.finish()
		top, err := g.stat(c.Context(), root)
		if err != nil {
			return explain("get", err)
		}
		if *out == "-" {
			if top.Kind != "file" {
				return usagef("get: a %s does not fit into standard output", top.Kind)
			}
			return explain("get", g.copy(c.Context(), root, 0, top.Size, c.OutOrStdout()))
		}
		if *out == "" {
			*out = root.Name()
		}
		return explain("get", g.save(c.Context(), *out, top))
	}
	return c
}

// getter copies content out of a running node.
type getter struct {
	client *control.Client
	root   chunk.Ref
	wait   bool
	errs   io.Writer
	bars   *mpb.Progress // nil when nobody looks
}

// again waits and reports whether err is worth another try.
func (g *getter) again(ctx context.Context, err error) bool {
	if !g.wait || !errors.Is(err, control.ErrNotFound) {
		return false
	}
	select {
	case <-time.After(retryEvery):
		return true
	case <-ctx.Done():
		return false
	}
}

func (g *getter) stat(ctx context.Context, r chunk.Ref) (control.Entry, error) {
	for {
		e, err := g.client.Stat(ctx, g.root, r)
		if err == nil || !g.again(ctx, err) {
			return e, err
		}
	}
}

// save puts top at name. The parent of name is opened once, and everything
// below is reached through it, so that no name from elsewhere leads out.
func (g *getter) save(ctx context.Context, name string, top control.Entry) error {
	dir, base := filepath.Split(filepath.Clean(name))
	if dir == "" {
		dir = "."
	}
	at, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer at.Close()
	return g.put(ctx, at, base, top, 0)
}

func (g *getter) put(ctx context.Context, at *os.Root, name string, e control.Entry, depth int) error {
	r, err := chunk.Parse(e.CID)
	if err != nil {
		return err
	}
	if e.Kind == "unknown" {
		if e, err = g.stat(ctx, r); err != nil {
			return err
		}
	}
	switch e.Kind {
	case "file":
		return g.file(ctx, at, name, r, e.Size)
	case "folder":
		return g.folder(ctx, at, name, r, depth)
	case "symlink":
		return symlink(at, name, e.Target)
	}
	return fmt.Errorf("content of an unknown kind")
}

// symlink makes a link that stays in its own folder; another is left out.
func symlink(at *os.Root, name, target string) error {
	if path.IsAbs(target) || !filepath.IsLocal(path.Join(path.Dir(name), target)) || strings.Contains(target, "..") {
		return nil
	}
	err := at.Symlink(target, name)
	if errors.Is(err, os.ErrExist) {
		if have, rerr := at.Readlink(name); rerr == nil && have == target {
			return nil
		}
	}
	return err
}

func (g *getter) folder(ctx context.Context, at *os.Root, name string, r chunk.Ref, depth int) error {
	if depth >= maxDepth {
		return fmt.Errorf("more than %d folders inside one another", maxDepth)
	}
	entries, err := g.client.List(ctx, g.root, r)
	for err != nil && g.again(ctx, err) {
		entries, err = g.client.List(ctx, g.root, r)
	}
	if err != nil {
		return err
	}
	if err := at.Mkdir(name, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	for _, e := range entries {
		if err := g.put(ctx, at, path.Join(name, chunk.EscapeName(e.Name)), e, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// file fetches into name.wanderfs-part, going on where an earlier try ended,
// and renames it when it is whole.
func (g *getter) file(ctx context.Context, at *os.Root, name string, r chunk.Ref, size int64) error {
	if same, err := holds(ctx, at, name, r); err == nil {
		if same {
			return nil
		}
		return withHint(fmt.Errorf("there is another file in its place"), "name another place with -o")
	}
	part := name + partSuffix
	f, err := at.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// A kill leaves whole writes, a power cut may leave anything: what an
	// earlier try wrote counts only if the whole hashes right in the end.
	resumed := min(info.Size(), size) / chunk.Size * chunk.Size
	for {
		if err := g.fill(ctx, f, r, resumed, size); err != nil {
			return err
		}
		if resumed == 0 {
			break
		}
		if e, err := chunk.ImportFile(ctx, f, size, nil); err == nil && e.Ref == r {
			break
		}
		resumed = 0 // other chunks than ours, or damage: the node has it all by now
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return at.Rename(part, name)
}

func (g *getter) fill(ctx context.Context, f *os.File, r chunk.Ref, from, size int64) error {
	if err := f.Truncate(from); err != nil {
		return err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	return g.copy(ctx, r, from, size, f)
}

// holds reports whether the file name is the content r. An error means that
// there is none.
func holds(ctx context.Context, at *os.Root, name string, r chunk.Ref) (bool, error) {
	f, err := at.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, nil
	}
	e, err := chunk.ImportFile(ctx, f, info.Size(), nil)
	return err == nil && e.Ref == r, nil
}

// copy writes the content from off to w and waits for sources if it may.
func (g *getter) copy(ctx context.Context, r chunk.Ref, off, size int64, w io.Writer) error {
	bar := g.bar(size, off)
	for off < size {
		body, err := g.client.File(ctx, g.root, r, off)
		var n int64
		if err == nil {
			n, err = io.Copy(w, bar.ProxyReader(body))
			body.Close()
		}
		off += n
		if off == size {
			break
		}
		if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			if err = ctx.Err(); err == nil && n > 0 {
				continue // the node gave up on a chunk after some progress: ask again
			}
			err = fmt.Errorf("the sources fell silent: %w", control.ErrNotFound)
		}
		if !g.again(ctx, err) {
			bar.Abort(false)
			return err
		}
	}
	return nil
}

// bar is a progress bar on a terminal, and one that shows nothing elsewhere.
func (g *getter) bar(size, done int64) *mpb.Bar {
	if g.bars == nil {
		w := io.Discard
		if f, ok := g.errs.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			w = g.errs
		}
		g.bars = mpb.New(mpb.WithOutput(w), mpb.WithWidth(48))
	}
	b := g.bars.AddBar(size, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.CountersKibiByte("% .1f / % .1f")),
		mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f"), decor.Name("  "), decor.AverageETA(decor.ET_STYLE_GO)))
	b.SetRefill(done)
	b.SetCurrent(done)
	return b
}

func (g *getter) finish() {
	if g.bars != nil {
		g.bars.Shutdown()
	}
}
