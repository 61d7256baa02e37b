package cache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"wanderfs/cache/chunk"
)

// faultyDisk fails where it is told to.
type faultyDisk struct {
	osDisk
	onOpen, onCreate, onRename, onRemove, onRead, onWrite, onClose, onStamp error

	avail   atomic.Int64 // what free tells; 0: the truth
	writes  atomic.Int64 // writes that fail before one succeeds, with onWrite
	removes atomic.Int64
}

func (d *faultyDisk) open(n string) (file, error) {
	if d.onOpen != nil {
		return nil, d.onOpen
	}
	f, err := d.osDisk.open(n)
	return d.wrap(f, err)
}

func (d *faultyDisk) create(n string) (file, error) {
	if d.onCreate != nil {
		return nil, d.onCreate
	}
	f, err := d.osDisk.create(n)
	return d.wrap(f, err)
}

func (d *faultyDisk) wrap(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return faultyFile{f, d}, nil
}

func (d *faultyDisk) rename(from, to string) error {
	if d.onRename != nil {
		return d.onRename
	}
	return d.osDisk.rename(from, to)
}

func (d *faultyDisk) remove(n string) error {
	if strings.Contains(n, "chunks") {
		d.removes.Add(1)
	}
	if d.onRemove != nil {
		return d.onRemove
	}
	return d.osDisk.remove(n)
}

func (d *faultyDisk) free(dir string) (avail, total int64, err error) {
	if a := d.avail.Load(); a != 0 {
		return a, 1 << 40, nil
	}
	return d.osDisk.free(dir)
}

type faultyFile struct {
	file
	d *faultyDisk
}

func (f faultyFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.file.ReadAt(p, off)
	if f.d.onRead != nil {
		return n / 2, f.d.onRead
	}
	return n, err
}

func (f faultyFile) Write(p []byte) (int, error) {
	if f.d.onWrite != nil && f.d.writes.Add(-1) >= 0 {
		n, _ := f.file.Write(p[:len(p)/2])
		return n, f.d.onWrite
	}
	return f.file.Write(p)
}

func (f faultyFile) stamp() (stamp, error) {
	if f.d.onStamp != nil {
		return stamp{}, f.d.onStamp
	}
	return f.file.stamp()
}

func (f faultyFile) Close() error {
	err := f.file.Close()
	if f.d.onClose != nil {
		return f.d.onClose
	}
	return err
}

const always = 1 << 40

// tidy checks that a failed put left nothing behind.
func tidy(t *testing.T, c *Cache, want Stats) {
	t.Helper()
	if l, _ := os.ReadDir(filepath.Join(c.dir, "tmp")); len(l) != 0 {
		t.Errorf("got %d temporary files, want 0", len(l))
	}
	got := c.Stats()
	if got.Bytes != want.Bytes || got.Chunks != want.Chunks {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := int64(len(chunkFiles(t, c.dir))); got != want.Chunks {
		t.Errorf("got %d files, want %d", got, want.Chunks)
	}
	if c.quota.writing != 0 {
		t.Errorf("got %d bytes still booked, want 0", c.quota.writing)
	}
}

func TestPutFaults(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*faultyDisk)
		want error
	}{
		{"no space to create", func(d *faultyDisk) { d.onCreate = syscall.ENOSPC }, ErrFull},
		{"no space to write", func(d *faultyDisk) { d.onWrite = syscall.ENOSPC; d.writes.Store(always) }, ErrFull},
		{"over the user's quota", func(d *faultyDisk) { d.onWrite = syscall.EDQUOT; d.writes.Store(always) }, ErrFull},
		{"no space to rename", func(d *faultyDisk) { d.onRename = syscall.ENOSPC }, ErrFull},
		{"disk fails at create", func(d *faultyDisk) { d.onCreate = syscall.EIO }, syscall.EIO},
		{"disk fails at write", func(d *faultyDisk) { d.onWrite = syscall.EIO; d.writes.Store(always) }, syscall.EIO},
		{"disk fails at rename", func(d *faultyDisk) { d.onRename = syscall.EIO }, syscall.EIO},
		{"read-only disk", func(d *faultyDisk) { d.onCreate = syscall.EROFS }, syscall.EROFS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &faultyDisk{}
			c := openOn(t, Config{Dir: t.TempDir(), MinFree: -1}, d)
			before := c.Stats()
			r, data := block(1, 50_000)
			tt.set(d)
			err := c.Put(r, data)
			if !errors.Is(err, tt.want) {
				t.Errorf("Put: got %v, want %v", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), c.dir) || strings.Contains(err.Error(), r.Name())) {
				t.Errorf("the error tells too much: %v", err)
			}
			if _, err := c.Get(r); !errors.Is(err, ErrMiss) {
				t.Errorf("Get: got %v, want ErrMiss", err)
			}
			tidy(t, c, before)
			*d = faultyDisk{}
			if err := c.Put(r, data); err != nil {
				t.Errorf("Put when the disk works again: %v", err)
			}
			if got, err := c.Get(r); err != nil || !bytes.Equal(got, data) {
				t.Errorf("Get when the disk works again: %v", err)
			}
		})
	}
}

// An error of close comes when the file is in place: it may or may not be whole.
func TestPutCloseFault(t *testing.T) {
	d := &faultyDisk{onClose: syscall.EIO}
	c := openOn(t, Config{Dir: t.TempDir()}, d)
	r, data := block(1, 50_000)
	if err := c.Put(r, data); !errors.Is(err, syscall.EIO) {
		t.Errorf("Put: got %v, want EIO", err)
	}
	d.onClose = nil
	if _, err := c.Get(r); !errors.Is(err, ErrMiss) {
		t.Errorf("Get: got %v, want ErrMiss", err)
	}
	tidy(t, c, Stats{})
}

func TestPutEvictsAtNoSpace(t *testing.T) {
	d := &faultyDisk{}
	c := openOn(t, Config{Dir: t.TempDir(), MinFree: -1}, d)
	old, _ := put(t, c, 1, 50_000)
	d.onWrite = syscall.ENOSPC
	d.writes.Store(1)
	r, data := put(t, c, 2, 50_000)
	if got, err := c.Get(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("Get: %v", err)
	}
	if c.Has(old) {
		t.Error("nothing was evicted to make room")
	}
}

func TestMinFree(t *testing.T) {
	d := &faultyDisk{}
	c := openOn(t, Config{Dir: t.TempDir(), MinFree: 1 << 20}, d)
	pin, _ := block(1, 4096)
	c.Pin(pin)
	put(t, c, 1, 4096)
	put(t, c, 2, 4096)
	d.avail.Store(1 << 20) // nothing above the reserve, and evicting does not help
	r, data := block(3, 4096)
	if err := c.Put(r, data); !errors.Is(err, ErrFull) {
		t.Errorf("Put on a full disk: got %v, want ErrFull", err)
	}
	if !c.Has(pin) {
		t.Error("the pinned chunk went")
	}
	if got := c.Stats().Chunks; got != 1 {
		t.Errorf("got %d chunks, want the pinned one only", got)
	}
	d.avail.Store(1<<20 + 4096)
	if err := c.Put(r, data); err != nil {
		t.Errorf("Put with just enough space: %v", err)
	}
}

func TestReadFaults(t *testing.T) {
	read := map[string]func(*Cache, chunk.Ref) error{
		"get":   func(c *Cache, r chunk.Ref) error { _, err := c.Get(r); return err },
		"range": func(c *Cache, r chunk.Ref) error { _, err := c.ReadRange(r, make([]byte, 100), 50); return err },
	}
	for _, tt := range []struct {
		name string
		set  func(*faultyDisk)
		kept bool // a passing fault: the chunk is there afterwards
	}{
		{"open", func(d *faultyDisk) { d.onOpen = syscall.EIO }, false},
		{"stat", func(d *faultyDisk) { d.onStamp = syscall.EIO }, false},
		{"read", func(d *faultyDisk) { d.onRead = syscall.EIO }, false},
		{"too many files", func(d *faultyDisk) { d.onOpen = syscall.EMFILE }, true},
		{"no memory", func(d *faultyDisk) { d.onRead = syscall.ENOMEM }, true},
		{"cannot even remove", func(d *faultyDisk) { d.onRead, d.onRemove = syscall.EIO, syscall.EIO }, false},
	} {
		for how, read := range read {
			for _, reopened := range []bool{false, true} {
				t.Run(tt.name+" "+how, func(t *testing.T) {
					d := &faultyDisk{}
					cfg := Config{Dir: t.TempDir()}
					c := openOn(t, cfg, d)
					r, data := put(t, c, 1, 50_000)
					if reopened {
						_ = c.Close()
						c = openOn(t, cfg, d)
					}
					tt.set(d)
					if err := read(c, r); !errors.Is(err, ErrMiss) {
						t.Errorf("got %v, want ErrMiss", err)
					}
					*d = faultyDisk{}
					if got := c.Has(r); got != tt.kept {
						t.Errorf("held afterwards: got %v, want %v", got, tt.kept)
					}
					if err := c.Put(r, data); err != nil {
						t.Errorf("Put again: %v", err)
					}
					if got, err := c.Get(r); err != nil || !bytes.Equal(got, data) {
						t.Errorf("Get again: %v", err)
					}
				})
			}
		}
	}
}

// TestTinyDisk fills a real file system of 4 MiB.
func TestTinyDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	fill := func(c *Cache, from uint64) (full int) {
		for i := from; i < from+40; i++ {
			r, data := block(i, 250_000)
			switch err := c.Put(r, data); {
			case errors.Is(err, ErrFull):
				full++
			case err != nil:
				t.Errorf("Put: %v", err)
			default:
				if got, err := c.Get(r); err != nil || !bytes.Equal(got, data) {
					t.Errorf("Get: %v", err)
				}
			}
		}
		return full
	}
	avail := func() int64 {
		a, _, err := osDisk{}.free(dir)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	t.Run("reserve", func(t *testing.T) {
		c := open1(t, Config{Dir: filepath.Join(dir, "a"), MinFree: 1 << 20})
		if full := fill(c, 0); full != 0 {
			t.Errorf("got ErrFull %d times, want eviction instead", full)
		}
		if a := avail(); a < 1<<20 {
			t.Errorf("got %d bytes free, want at least 1 MiB", a)
		}
		// Somebody else fills the disk.
		hog := filepath.Join(dir, "hog")
		if err := os.WriteFile(hog, make([]byte, avail()), 0o600); err != nil {
			t.Fatal(err)
		}
		if full := fill(c, 100); full != 0 {
			t.Errorf("got ErrFull %d times, want eviction instead", full)
		}
		if a := avail(); a < 1<<20 {
			t.Errorf("got %d bytes free, want at least 1 MiB", a)
		}
		if err := os.Remove(hog); err != nil {
			t.Fatal(err)
		}
		tidy(t, c, c.Stats())
	})
	if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	t.Run("no reserve", func(t *testing.T) {
		c := open1(t, Config{Dir: filepath.Join(dir, "b"), MinFree: -1})
		if full := fill(c, 0); full != 0 {
			t.Errorf("got ErrFull %d times, want eviction instead", full)
		}
		// Pins fill it: now there is nothing to evict.
		for i := uint64(200); i < 240; i++ {
			r, data := block(i, 250_000)
			c.Pin(r)
			if err := c.Put(r, data); err != nil && !errors.Is(err, ErrFull) {
				t.Errorf("Put: %v", err)
			}
		}
		r, data := block(300, 250_000)
		if err := c.Put(r, data); !errors.Is(err, ErrFull) {
			t.Errorf("Put among pinned chunks: got %v, want ErrFull", err)
		}
		tidy(t, c, c.Stats())
	})
}
