package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wanderfs/node/control"
)

// The size of the demo.
const (
	demoRelays    = 12
	demoSupers    = 5 // at least
	demoBytes     = 256 << 20
	demoFiles     = 1000
	demoPositions = 6 // relays between reader and publisher, with the default --hops
	demoFilm      = "wandering film.bin"
	demoAlbum     = "album of a thousand pictures"
	demoTimeout   = 3 * time.Minute // for each wait; it ends a demo that hangs
	tolerance     = 0.05            // of the relays' counters against positions x bytes
)

func demoCommand() *cobra.Command {
	c := &cobra.Command{Use: "demo", Short: "A private network on this machine, and the whole way through it"}
	once := c.Flags().Bool("once", false, "end after the copy; status 0 only if all is verified")
	yes := c.Flags().Bool("yes", false, "install fuse3 without asking")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := needFuse(c.Context(), *yes, c.InOrStdin(), c.OutOrStdout()); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		dir, err := os.MkdirTemp("", "wanderfs-demo-")
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		d := &demo{dir: dir, out: c.OutOrStdout()}
		err = d.run(c.Context(), *once)
		if cerr := d.close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		return nil
	}
	return c
}

// demo is a private network of processes on loopback.
type demo struct {
	dir               string
	program           string // default: this one
	out               io.Writer
	relays            []*child
	publisher, reader *child
}

func (d *demo) run(ctx context.Context, once bool) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	film, album, err := d.share(ctx)
	if err != nil {
		return err
	}
	r, err := d.copyOut(ctx, film, album)
	if err != nil {
		return err
	}
	d.table(r)
	if err := r.check(); err != nil {
		return err
	}
	if once {
		return nil
	}
	fmt.Fprintf(d.out, "\nThe drives stay mounted until Ctrl-C:\n  publisher  %s\n  reader     %s\n", d.publisher.mnt, d.reader.mnt)
	fmt.Fprintf(d.out, "Copy something into %s/shared and look for it in %s/search/'a word of its name'.\n", d.publisher.mnt, d.reader.mnt)
	<-ctx.Done()
	return nil
}

// start runs the relays, one a process, then the two drives.
func (d *demo) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	fmt.Fprintf(d.out, "starting %d relays, a publisher and a reader, each its own process\n", demoRelays)
	network := "demo-" + hex.EncodeToString(random(4))
	flags := []string{"--lab", "--network", network, "--listen", "/ip4/127.0.0.1/tcp/0", "--no-upnp", "--log-level", "warn"}
	spawn := func(name string, mount bool) (*child, error) {
		args := flags[:len(flags):len(flags)]
		if mount { // as behind most home routers: nobody can dial a drive, so what it reads and shares crosses others
			args = append(args, "--reachability", "private")
		}
		return startChild(childConfig{Name: name, Dir: filepath.Join(d.dir, name), Mount: mount, Args: args, Program: d.program})
	}
	for i := range demoRelays {
		c, err := spawn(fmt.Sprintf("relay%d", i+1), false)
		if err != nil {
			return err
		}
		d.relays = append(d.relays, c)
		if i > 0 {
			continue
		}
		s, err := c.await(ctx, "its address", func(s control.Status) bool { return len(s.Addrs) > 0 })
		if err != nil {
			return err
		}
		flags = append(flags, "--bootstrap", s.Addrs[0])
	}
	supers := 0
	for _, c := range d.relays {
		s, err := c.await(ctx, "the other relays", func(s control.Status) bool { return s.RelaysKnown >= demoRelays-1 })
		if err != nil {
			return err
		}
		if s.SuperNode {
			supers++
		}
	}
	if supers < demoSupers {
		return fmt.Errorf("%d of %d relays are super nodes, want at least %d", supers, demoRelays, demoSupers)
	}
	var err error
	if d.publisher, err = spawn("publisher", true); err != nil {
		return err
	}
	if d.reader, err = spawn("reader", true); err != nil {
		return err
	}
	for _, c := range []*child{d.publisher, d.reader} {
		if _, err := c.await(ctx, "a path", func(s control.Status) bool { return s.Ready }); err != nil {
			return err
		}
	}
	fmt.Fprintf(d.out, "%d relays know each other, %d of them super nodes\n", demoRelays, supers)
	return nil
}

// share copies a film and an album into the publisher's drive and returns
// what they hash to.
func (d *demo) share(ctx context.Context) (film [32]byte, album map[string][32]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	shared := filepath.Join(d.publisher.mnt, "shared")
	fmt.Fprintf(d.out, "copying a film of %s and a folder of %d files into %s\n", bytes(demoBytes), demoFiles, shared)
	sum := sha256.New()
	if err := writeFile(ctx, filepath.Join(shared, demoFilm), io.TeeReader(io.LimitReader(rand.Reader, demoBytes), sum)); err != nil {
		return film, nil, err
	}
	film = [32]byte(sum.Sum(nil))
	if err := os.Mkdir(filepath.Join(shared, demoAlbum), 0o777); err != nil {
		return film, nil, err
	}
	album = make(map[string][32]byte, demoFiles)
	for i := range demoFiles {
		name := fmt.Sprintf("picture %04d.raw", i)
		body := random(1024 + i*16)
		album[name] = sha256.Sum256(body)
		if err := os.WriteFile(filepath.Join(shared, demoAlbum, name), body, 0o666); err != nil {
			return film, nil, err
		}
	}
	_, err = d.publisher.await(ctx, "publication", func(s control.Status) bool {
		if s.Shared.Hashing > 0 || s.Shared.Published < demoFiles+1 {
			return false
		}
		st, err := d.publisher.client.ShareState(ctx, demoAlbum)
		return err == nil && st.Phase == "published"
	})
	return film, album, err
}

// copyOut finds both with ls, copies them out and verifies them.
func (d *demo) copyOut(ctx context.Context, film [32]byte, album map[string][32]byte) (*report, error) {
	r := &report{positions: demoPositions}
	name, took, err := d.find(ctx, "film", demoFilm)
	if err != nil {
		return nil, err
	}
	r.found = took
	before, err := d.carried(ctx)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	got := filepath.Join(d.dir, "film")
	sum := sha256.New()
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	first := &firstByte{Reader: in, start: start}
	if err := writeFile(ctx, got, io.TeeReader(first, sum)); err != nil {
		return nil, fmt.Errorf("copy the film out: %w", err)
	}
	r.took, r.first, r.bytes = time.Since(start), first.after, demoBytes
	if [32]byte(sum.Sum(nil)) != film {
		return nil, errors.New("the film arrived wrong")
	}
	after, err := d.carried(ctx)
	if err != nil {
		return nil, err
	}
	for i, c := range d.all() {
		r.carried = append(r.carried, load{c.name, after[i] - before[i]})
	}

	folder, _, err := d.find(ctx, "album", demoAlbum)
	if err != nil {
		return nil, err
	}
	start = time.Now()
	names, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("list the album: %w", err)
	}
	for _, e := range names {
		body, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("copy the album out: %w", err)
		}
		if sha256.Sum256(body) != album[e.Name()] {
			return nil, errors.New("a picture arrived wrong")
		}
		r.files++
	}
	if r.files != len(album) {
		return nil, fmt.Errorf("%d of %d pictures arrived", r.files, len(album))
	}
	r.filesTook = time.Since(start)
	return r, nil
}

// find waits until ls of a search on the reader's drive shows want, and says
// how long the first listing that did took.
func (d *demo) find(ctx context.Context, query, want string) (string, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	dir := filepath.Join(d.reader.mnt, "search", query)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		start := time.Now()
		names, err := os.ReadDir(dir)
		if err != nil {
			return "", 0, fmt.Errorf("search: %w", err)
		}
		for _, e := range names {
			if e.Name() == want || strings.HasPrefix(e.Name(), want+" ~") {
				return filepath.Join(dir, e.Name()), time.Since(start), nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", 0, errors.New("the search did not find what was shared")
		}
	}
}

// all are the nodes of the network.
func (d *demo) all() []*child { return append([]*child{d.publisher, d.reader}, d.relays...) }

// carried asks every node for what it carried for others so far.
func (d *demo) carried(ctx context.Context) ([]uint64, error) {
	var n []uint64
	for _, c := range d.all() {
		s, err := c.client.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		n = append(n, s.Relayed.Bytes)
	}
	return n, nil
}

// close ends all processes, the drives first, and removes the folder.
func (d *demo) close() error {
	var errs []error
	stop := func(cs ...*child) {
		results := make(chan error, len(cs))
		n := 0
		for _, c := range cs {
			if c != nil {
				n++
				go func() { results <- c.stop() }()
			}
		}
		for range n {
			if err := <-results; err != nil {
				errs = append(errs, err)
			}
		}
	}
	stop(d.reader, d.publisher)
	stop(d.relays...)
	if len(errs) > 0 {
		return fmt.Errorf("stop: %w; their logs are in %s", errors.Join(errs...), d.dir)
	}
	return os.RemoveAll(d.dir)
}

// firstByte notes when the first byte came.
type firstByte struct {
	io.Reader
	start time.Time
	after time.Duration
}

func (f *firstByte) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if n > 0 && f.after == 0 {
		f.after = time.Since(f.start)
	}
	return n, err
}

func writeFile(ctx context.Context, name string, src io.Reader) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, rerr := src.Read(buf)
		if _, err := f.Write(buf[:n]); err != nil {
			return errors.Join(err, f.Close())
		}
		if rerr == io.EOF {
			return f.Close()
		}
		if rerr != nil {
			return errors.Join(rerr, f.Close())
		}
	}
	return errors.Join(ctx.Err(), f.Close())
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return b
}
