package cache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wanderfs/cache/chunk"
)

// TestDamage changes a chunk's file in every way a crash, a failing disk or
// another program may, while the cache is closed and while it is open.
func TestDamage(t *testing.T) {
	const n = 20_000
	damages := map[string]func(path string) error{
		"bit": func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[n-1] ^= 1
			return os.WriteFile(path, b, 0o600)
		},
		"zeroes": func(path string) error { return os.WriteFile(path, make([]byte, n), 0o600) },
		"cut":    func(path string) error { return os.Truncate(path, n/2) },
		"empty":  func(path string) error { return os.Truncate(path, 0) },
		"longer": func(path string) error { return os.Truncate(path, n+1) },
		"huge":   func(path string) error { return os.Truncate(path, 1<<33) },
		"gone":   os.Remove,
		"folder": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"fifo":   func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) },
		"link": func(path string) error {
			copied := path + "-copy"
			return errors.Join(os.Rename(path, copied), os.Symlink(copied, path))
		},
		"other": func(path string) error { // right length, wrong chunk
			_, data := block(77, n)
			tmp := path + "-new"
			return errors.Join(os.WriteFile(tmp, data, 0o600), os.Rename(tmp, path))
		},
	}
	read := map[string]func(*Cache, chunk.Ref) error{
		"get":   func(c *Cache, r chunk.Ref) error { _, err := c.Get(r); return err },
		"range": func(c *Cache, r chunk.Ref) error { _, err := c.ReadRange(r, make([]byte, 10), 5); return err },
	}
	for what, damage := range damages {
		for how, read := range read {
			for _, while := range []string{"closed", "open"} {
				t.Run(what+" "+how+" "+while, func(t *testing.T) {
					cfg := Config{Dir: t.TempDir()}
					c := open1(t, cfg)
					r, data := put(t, c, 1, n)
					if err := read(c, r); err != nil {
						t.Fatal(err)
					}
					path := chunkFiles(t, cfg.Dir)[0]
					if while == "closed" {
						_ = c.Close()
					}
					if err := damage(path); err != nil {
						t.Fatal(err)
					}
					if while == "closed" {
						c = open1(t, cfg)
					}
					for range 2 {
						if err := read(c, r); !errors.Is(err, ErrMiss) {
							t.Errorf("read: got %v, want ErrMiss", err)
						}
					}
					if c.Has(r) {
						t.Error("Has: got true")
					}
					if what != "folder" || while == "closed" {
						if err := c.Put(r, data); err != nil {
							t.Errorf("Put again: %v", err)
						}
						if got, err := c.Get(r); err != nil || !bytes.Equal(got, data) {
							t.Errorf("Get again: %v", err)
						}
					}
				})
			}
		}
	}
}

// Files of others among the chunks are not counted, and do not stay.
func TestStrays(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	c := open1(t, cfg)
	r, _ := put(t, c, 1, 1000)
	_ = c.Close()
	own := chunkFiles(t, cfg.Dir)[0]
	ab := filepath.Dir(own)
	for _, name := range []string{"x", filepath.Base(own) + "0", "ZZ" + filepath.Base(own)[2:]} {
		if err := os.WriteFile(filepath.Join(ab, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(cfg.Dir, "chunks", "00")
	if ab == other {
		other = filepath.Join(cfg.Dir, "chunks", "01")
	}
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(own, filepath.Join(other, filepath.Base(own))); err != nil {
		t.Fatal(err) // in the wrong shard nobody would look for it
	}
	c = open1(t, cfg)
	if got := c.Stats(); got.Chunks != 0 || c.Has(r) {
		t.Errorf("got %+v, want no chunks", got)
	}
	if l := chunkFiles(t, cfg.Dir); len(l) != 0 {
		t.Errorf("got %d files, want 0", len(l))
	}
}

func TestUnfinishedFilesGo(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	c := open1(t, cfg)
	if err := c.Seal("x", []byte("y")); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	left := []string{"tmp/7", "sealed/.new-123", ".new-123"}
	for _, l := range left {
		if err := os.WriteFile(filepath.Join(cfg.Dir, l), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c = open1(t, cfg)
	for _, l := range left {
		if _, err := os.Lstat(filepath.Join(cfg.Dir, l)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v, want it gone", l, err)
		}
	}
	if got, err := c.Unseal("x"); err != nil || string(got) != "y" {
		t.Errorf("Unseal: got %q, %v", got, err)
	}
}

// countingDisk counts the bytes that are read, and can hold readers up between
// opening a file and reading it.
type countingDisk struct {
	osDisk
	mu    sync.Mutex
	bytes int64 // guarded by mu
	hold  chan struct{}
	held  chan struct{}
}

func (d *countingDisk) open(n string) (file, error) {
	f, err := d.osDisk.open(n)
	if err != nil {
		return nil, err
	}
	return countingFile{f, d}, nil
}

type countingFile struct {
	file
	d *countingDisk
}

func (f countingFile) ReadAt(p []byte, off int64) (int, error) {
	if f.d.hold != nil {
		f.d.held <- struct{}{}
		<-f.d.hold
	}
	n, err := f.file.ReadAt(p, off)
	f.d.mu.Lock()
	f.d.bytes += int64(n)
	f.d.mu.Unlock()
	return n, err
}

func TestVerifiedOnceAfterOpening(t *testing.T) {
	const n = 1 << 20
	cfg := Config{Dir: t.TempDir()}
	d := &countingDisk{}
	c := openOn(t, cfg, d)
	r, _ := put(t, c, 1, n)
	p := make([]byte, 1000)
	read := func(want int64) {
		t.Helper()
		d.bytes = 0
		if _, err := c.ReadRange(r, p, 5000); err != nil {
			t.Fatal(err)
		}
		if d.bytes != want {
			t.Errorf("got %d bytes read, want %d", d.bytes, want)
		}
	}
	read(1000) // it was verified when it was put
	_ = c.Close()
	c = openOn(t, cfg, d)
	read(n)
	read(1000)
	_ = c.Close()
	c = openOn(t, cfg, d)
	if _, err := c.Get(r); err != nil {
		t.Fatal(err)
	}
	read(1000)
	path := chunkFiles(t, cfg.Dir)[0]
	if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(2, 0)); err != nil {
		t.Fatal(err)
	}
	read(n) // somebody was at it
	read(1000)
}

// A reader that has opened a chunk reads it to its end though it is evicted,
// put again, or removed meanwhile.
func TestEvictedWhileRead(t *testing.T) {
	const n = 50_000
	for _, reopened := range []bool{false, true} {
		cfg := Config{Dir: t.TempDir(), Limit: 4 * weight(n), MinFree: -1}
		d := &countingDisk{}
		c := openOn(t, cfg, d)
		r, data := put(t, c, 1, n)
		if reopened {
			_ = c.Close()
			c = openOn(t, cfg, d)
		}
		d.hold, d.held = make(chan struct{}), make(chan struct{})
		p := make([]byte, 1000)
		type result struct {
			n   int
			err error
		}
		done := make(chan result)
		go func() {
			n, err := c.ReadRange(r, p, 100)
			done <- result{n, err}
		}()
		<-d.held
		for i := range uint64(20) {
			put(t, c, 10+i, n)
		}
		if c.Has(r) {
			t.Fatal("not evicted")
		}
		put(t, c, 1, n)
		close(d.hold)
		if got := <-done; got.err != nil || !bytes.Equal(p[:got.n], data[100:1100]) {
			t.Errorf("reopened %v: got %d bytes, %v", reopened, got.n, got.err)
		}
	}
}

func TestFirstReadersShareTheWork(t *testing.T) {
	const n, readers = 1 << 20, 16
	cfg := Config{Dir: t.TempDir()}
	c := open1(t, cfg)
	r, data := put(t, c, 1, n)
	_ = c.Close()
	d := &countingDisk{}
	c = openOn(t, cfg, d)
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			p := make([]byte, 1000)
			if got, err := c.ReadRange(r, p, int64(i)); err != nil || !bytes.Equal(p[:got], data[i:i+1000]) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if d.bytes > n*readers/2 {
		t.Errorf("got %d bytes read, want about %d", d.bytes, n)
	}
}

func TestSeal(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	c := open1(t, cfg)
	if _, err := c.Unseal("standing-queries"); !errors.Is(err, ErrMiss) {
		t.Errorf("Unseal of nothing: got %v, want ErrMiss", err)
	}
	for _, want := range []string{"free jazz", "", "blues"} {
		if err := c.Seal("standing-queries", []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Unseal("standing-queries"); err != nil || string(got) != want {
			t.Errorf("Unseal: got %q, %v, want %q", got, err, want)
		}
	}
	_ = c.Close()
	c = open1(t, cfg)
	if got, err := c.Unseal("standing-queries"); err != nil || string(got) != "blues" {
		t.Errorf("Unseal after reopening: got %q, %v", got, err)
	}
	for _, bad := range []string{"", ".", "..", "a/b", "A", "../key", string(make([]byte, 65))} {
		if err := c.Seal(bad, nil); err == nil {
			t.Errorf("Seal(%q): got no error", bad)
		}
		if _, err := c.Unseal(bad); err == nil || errors.Is(err, ErrMiss) {
			t.Errorf("Unseal(%q): got %v, want an error", bad, err)
		}
	}
	if err := c.Seal("big", make([]byte, MaxSealed+1)); err == nil {
		t.Error("Seal of too much: got no error")
	}
	sealed := filepath.Join(cfg.Dir, "sealed")
	if err := os.Rename(filepath.Join(sealed, "standing-queries"), filepath.Join(sealed, "other")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Unseal("other"); !errors.Is(err, ErrDamaged) {
		t.Errorf("Unseal under another name: got %v, want ErrDamaged", err)
	}
	if err := c.Unstore("other"); err != nil {
		t.Error(err)
	}
	if _, err := c.Unseal("other"); !errors.Is(err, ErrMiss) {
		t.Errorf("Unseal after Unstore: got %v, want ErrMiss", err)
	}
}
