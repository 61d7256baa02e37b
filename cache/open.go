package cache

import (
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"wanderfs/cache/chunk"
)

// claim makes the directory and locks it. The lock is the kernel's: it ends
// with the process however that ends.
func (c *Cache) claim() error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return bare(err)
	}
	l := flock.New(filepath.Join(c.dir, "lock"), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		return fmt.Errorf("lock: %w", bare(err))
	}
	if !ok {
		_ = l.Close()
		return ErrLocked
	}
	c.lock = l
	return nil
}

// unlockKeys reads or makes the key, and clears what another key wrote.
func (c *Cache) unlockKeys(cfg Config) error {
	def := filepath.Join(c.dir, "key")
	var master []byte
	var err error
	if cfg.Memory {
		master = newMaster()
		// A key that lies about would open what is left of removed files.
		if err := os.Remove(def); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return fmt.Errorf("remove key file: %w", bare(err))
		}
	} else {
		if cfg.KeyFile == "" {
			cfg.KeyFile = def
		}
		if master, err = loadKey(cfg.KeyFile); err != nil {
			return err
		}
	}
	if c.keys, err = newKeys(master); err != nil {
		return err
	}
	mark := filepath.Join(c.dir, "mark")
	had, err := os.ReadFile(mark)
	if err == nil && hmac.Equal(had, c.keys.mark[:]) {
		return nil
	}
	for _, old := range []string{"chunks", "sealed", "pins", "tmp"} {
		if err := os.RemoveAll(filepath.Join(c.dir, old)); err != nil {
			return fmt.Errorf("clear old cache: %w", bare(err))
		}
	}
	// Written after the clearing: a crash before it clears again.
	return writeWhole(mark, c.keys.mark[:])
}

// loadKey reads the key, or makes one if there is no file.
func loadKey(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, iofs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("make key file: %w", bare(err))
		}
		master := newMaster()
		if err := writeWhole(path, master); err != nil {
			return nil, fmt.Errorf("make key file: %w", err)
		}
		return master, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", bare(err))
	}
	if !info.Mode().IsRegular() || info.Size() != keySize {
		return nil, fmt.Errorf("read key file: not %d bytes in a plain file; remove it to begin with an empty cache", keySize)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, fmt.Errorf("protect key file: %w", bare(err))
		}
	}
	master, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", bare(err))
	}
	if len(master) != keySize {
		return nil, errors.New("read key file: it changed while being read")
	}
	return master, nil
}

// newPattern names files that writeWhole has not finished.
const newPattern = ".new-*"

// writeWhole writes a small file so that a crash leaves the old one, none, or
// all of the new one.
func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), newPattern) // mode 0600
	if err != nil {
		return bare(err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return bare(err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return bare(err)
	}
	defer d.Close()
	return bare(d.Sync())
}

// makeDirs makes the sub-directories, except the shards, which are made when
// they are needed, and removes what an earlier process did not finish.
func (c *Cache) makeDirs() error {
	if err := os.RemoveAll(filepath.Join(c.dir, "tmp")); err != nil {
		return bare(err)
	}
	for _, d := range []string{"tmp", "sealed", "chunks"} {
		if err := os.MkdirAll(filepath.Join(c.dir, d), 0o700); err != nil {
			return bare(err)
		}
	}
	for _, d := range []string{c.dir, filepath.Join(c.dir, "sealed")} {
		left, err := os.ReadDir(d)
		if err != nil {
			return bare(err)
		}
		for _, l := range left {
			if ok, _ := filepath.Match(newPattern, l.Name()); ok {
				_ = os.Remove(filepath.Join(d, l.Name()))
			}
		}
	}
	return nil
}

func (c *Cache) path(n name) string {
	s := n.String()
	return c.dir + "/chunks/" + s[:2] + "/" + s
}

// scan fills the index from the directories: names and sizes, oldest first.
// No chunk is opened; each is verified at its first read.
func (c *Cache) scan() error {
	type found struct {
		name  name
		size  int64
		mtime int64
	}
	var (
		mu  sync.Mutex
		all []found // guarded by mu
		g   errgroup.Group
	)
	shards, err := os.ReadDir(filepath.Join(c.dir, "chunks"))
	if err != nil {
		return fmt.Errorf("list chunks: %w", bare(err))
	}
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	for _, shard := range shards {
		dir := filepath.Join(c.dir, "chunks", shard.Name())
		first, err := hex.DecodeString(shard.Name())
		if err != nil || len(first) != 1 || !shard.IsDir() {
			_ = os.RemoveAll(dir) // nothing of ours
			continue
		}
		g.Go(func() error {
			d, err := os.Open(dir)
			if err != nil {
				return bare(err)
			}
			defer d.Close()
			infos, err := d.Readdir(-1) // unlike os.ReadDir it does not sort
			if err != nil {
				return bare(err)
			}
			var own []found
			for _, info := range infos {
				n, ok := parseName(info.Name(), first[0])
				if !ok || !info.Mode().IsRegular() || info.Size() > chunk.MaxBlock {
					// Nothing of ours; the index could not account for it.
					_ = os.RemoveAll(filepath.Join(dir, info.Name()))
					continue
				}
				own = append(own, found{n, info.Size(), info.ModTime().UnixNano()})
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("list chunks: %w", err)
	}
	slices.SortFunc(all, func(a, b found) int {
		switch {
		case a.mtime < b.mtime:
			return -1
		case a.mtime > b.mtime:
			return 1
		}
		return 0
	})
	for _, f := range all {
		e := &entry{name: f.name, size: f.size}
		c.quota.add(e, 0)
	}
	return nil
}

// parseName reads the name of a chunk's file in the shard dir.
func parseName(s string, dir byte) (name, bool) {
	var n name
	if len(s) != 2*len(n) {
		return n, false
	}
	if _, err := hex.Decode(n[:], []byte(s)); err != nil {
		return n, false
	}
	return n, n[0] == dir && n.String() == s // one spelling only
}

// bare takes the file's name out of an error: what remains is the errno.
func bare(err error) error {
	var pe *iofs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}
