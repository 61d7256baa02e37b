package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"wanderfs/cache/chunk"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		killChild(dir) // does not return
	}
	goleak.VerifyTestMain(m)
}

// block returns n bytes that belong to seed, and their Ref.
func block(seed uint64, n int) (chunk.Ref, []byte) {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	data := make([]byte, n)
	src := rand.NewChaCha8(key)
	_, _ = src.Read(data)
	return chunk.Raw(data), data
}

func open1(t testing.TB, cfg Config) *Cache {
	t.Helper()
	return openOn(t, cfg, osDisk{})
}

func openOn(t testing.TB, cfg Config, d disk) *Cache {
	t.Helper()
	c, err := open(cfg, d)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func put(t testing.TB, c *Cache, seed uint64, n int) (chunk.Ref, []byte) {
	t.Helper()
	r, data := block(seed, n)
	if err := c.Put(r, data); err != nil {
		t.Fatalf("Put: %v", err)
	}
	return r, data
}

// chunkFiles returns the paths of all chunks on disk.
func chunkFiles(t testing.TB, dir string) []string {
	t.Helper()
	l, err := filepath.Glob(filepath.Join(dir, "chunks", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPutGet(t *testing.T) {
	dir := t.TempDir()
	c := open1(t, Config{Dir: dir})
	for i, n := range []int{0, 1, 15, 16, 17, 4096, 1 << 20, chunk.MaxBlock} {
		r, data := put(t, c, uint64(i), n)
		if !c.Has(r) {
			t.Errorf("%d bytes: Has after Put: got false", n)
		}
		got, err := c.Get(r)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: Get: %d bytes, %v", n, len(got), err)
		}
	}
	want := int64(8)
	if s := c.Stats(); s.Chunks != want || s.Limit != defaultLimit || s.Hits != 8 {
		t.Errorf("Stats: got %+v, want %d chunks", s, want)
	}
	r, data := block(99, 100)
	if _, err := c.Get(r); !errors.Is(err, ErrMiss) {
		t.Errorf("Get of nothing: got %v, want ErrMiss", err)
	}
	if _, err := c.Get(chunk.Ref{}); !errors.Is(err, ErrMiss) {
		t.Errorf("Get of the zero Ref: got %v, want ErrMiss", err)
	}
	data[7] ^= 1
	if err := c.Put(r, data); !errors.Is(err, chunk.ErrMismatch) {
		t.Errorf("Put of wrong data: got %v, want ErrMismatch", err)
	}
	if c.Has(r) {
		t.Error("Has after a refused Put: got true")
	}
	big, data := block(100, chunk.MaxBlock+1)
	if err := c.Put(big, data); !errors.Is(err, chunk.ErrMismatch) {
		t.Errorf("Put of an overlong block: got %v, want ErrMismatch", err)
	}
}

func TestSameBytesOtherCodec(t *testing.T) {
	c := open1(t, Config{Dir: t.TempDir()})
	_, data := put(t, c, 1, 100)
	if got, err := c.Get(chunk.PB(data)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("Get under the other codec: %v", err)
	}
}

func TestInline(t *testing.T) {
	c := open1(t, Config{Dir: t.TempDir()})
	r, err := chunk.Parse("bafkqablimvwgy3y") // identity hash of "hello"
	if err != nil {
		t.Fatal(err)
	}
	c.Pin(r)
	if err := c.Put(r, []byte("hello")); err != nil {
		t.Errorf("Put: %v", err)
	}
	if got, err := c.Get(r); err != nil || string(got) != "hello" {
		t.Errorf("Get: got %q, %v", got, err)
	}
	p := make([]byte, 10)
	if n, err := c.ReadRange(r, p, 2); err != nil || string(p[:n]) != "llo" {
		t.Errorf("ReadRange: got %q, %v", p[:n], err)
	}
	if s := c.Stats(); s.Chunks != 0 {
		t.Errorf("got %d chunks stored, want 0", s.Chunks)
	}
}

func TestReadRange(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir}
	c := open1(t, cfg)
	r, data := put(t, c, 1, 100_000)
	check := func(off int64, n int) {
		t.Helper()
		p := make([]byte, n)
		got, err := c.ReadRange(r, p, off)
		lo := min(off, int64(len(data)))
		hi := min(lo+int64(n), int64(len(data)))
		if err != nil || !bytes.Equal(p[:got], data[lo:hi]) {
			t.Errorf("ReadRange(off %d, %d bytes): got %d, %v", off, n, got, err)
		}
	}
	all := func() {
		t.Helper()
		for _, off := range []int64{0, 1, 15, 16, 17, 4095, 65536, 99_999, 100_000, 1 << 40} {
			for _, n := range []int{0, 1, 16, 33, 70_000, 200_000} {
				check(off, n)
			}
		}
	}
	all()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open1(t, cfg)
	all()
	if _, err := c.ReadRange(r, make([]byte, 1), -1); err == nil {
		t.Error("negative offset: got no error")
	}
}

func TestCounterCarry(t *testing.T) {
	k, err := newKeys(make([]byte, keySize))
	if err != nil {
		t.Fatal(err)
	}
	s := slot{iv: [16]byte(bytes.Repeat([]byte{0xff}, 16))}
	_, data := block(1, 1000)
	whole := make([]byte, len(data))
	k.crypt(s, whole, data, 0)
	for off := range len(data) {
		part := make([]byte, len(data)-off)
		k.crypt(s, part, whole[off:], int64(off))
		if !bytes.Equal(part, data[off:]) {
			t.Fatalf("from %d: wrong bytes", off)
		}
	}
}

func TestReopen(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	c := open1(t, cfg)
	type held struct {
		r    chunk.Ref
		data []byte
	}
	var all []held
	for i := range 40 {
		r, data := put(t, c, uint64(i), 5000+i)
		all = append(all, held{r, data})
	}
	before := c.Stats()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := c.Get(all[0].r); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close: got %v, want ErrClosed", err)
	}
	c = open1(t, cfg)
	if got := c.Stats(); got.Bytes != before.Bytes || got.Chunks != before.Chunks {
		t.Errorf("Stats after reopening: got %+v, want %+v", got, before)
	}
	for _, h := range all {
		if got, err := c.Get(h.r); err != nil || !bytes.Equal(got, h.data) {
			t.Errorf("Get after reopening: %v", err)
		}
	}
}

func TestSecondProcessRefused(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	c := open1(t, cfg)
	if _, err := Open(cfg); !errors.Is(err, ErrLocked) {
		t.Fatalf("second Open: got %v, want ErrLocked", err)
	}
	_ = c.Close()
	open1(t, cfg)
}

func TestNothingReadableOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	c := open1(t, Config{Dir: dir})
	data := []byte(strings.Repeat("a secret that nobody should find ", 300))
	r := chunk.Raw(data)
	if err := c.Put(r, data); err != nil {
		t.Fatal(err)
	}
	c.Pin(r)
	if err := c.Seal("standing-queries", data); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(data)
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v is open to others", d.Name(), info.Mode())
		}
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		for _, secret := range [][]byte{[]byte("secret"), digest[:], digest[:8], []byte(r.Name())} {
			if bytes.Contains(b, secret) || strings.Contains(p, string(secret)) {
				t.Errorf("%s: tells what is in the cache", d.Name())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMemoryKey(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir}
	c := open1(t, cfg)
	r, data := put(t, c, 1, 1000)
	c.Pin(r)
	if err := c.Seal("x", data); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()

	cfg.Memory = true
	for range 2 {
		c = open1(t, cfg)
		if c.Has(r) || c.Pinned(r) {
			t.Error("chunk of another key: still there")
		}
		if _, err := c.Unseal("x"); !errors.Is(err, ErrMiss) {
			t.Errorf("Unseal: got %v, want ErrMiss", err)
		}
		if l := chunkFiles(t, dir); len(l) != 0 {
			t.Errorf("got %d old files, want 0", len(l))
		}
		if _, err := os.Stat(filepath.Join(dir, "key")); err == nil {
			t.Error("a key file lies in the directory")
		}
		if err := c.Put(r, data); err != nil {
			t.Fatal(err)
		}
		if err := c.Seal("x", data); err != nil {
			t.Fatal(err)
		}
		c.Pin(r)
		_ = c.Close()
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: filepath.Join(dir, "c"), KeyFile: filepath.Join(dir, "k", "key")}
	c := open1(t, cfg)
	r, _ := put(t, c, 1, 1000)
	_ = c.Close()
	if err := os.Chmod(cfg.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	c = open1(t, cfg)
	if !c.Has(r) {
		t.Error("chunk lost")
	}
	info, err := os.Stat(cfg.KeyFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: got mode %v, want 0600", info.Mode())
	}
	_ = c.Close()
	if err := os.WriteFile(cfg.KeyFile, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); err == nil {
		t.Error("Open with a short key: got no error")
	}
	if err := os.Remove(cfg.KeyFile); err != nil {
		t.Fatal(err)
	}
	c = open1(t, cfg)
	if c.Has(r) || c.Stats().Chunks != 0 {
		t.Error("chunk of a lost key: still there")
	}
}

func TestConcurrent(t *testing.T) {
	c := open1(t, Config{Dir: t.TempDir(), Limit: 1 << 20, MinFree: -1})
	const blocks = 64 // of 32 KiB: twice the limit
	var refs [blocks]chunk.Ref
	var datas [blocks][]byte
	for i := range blocks {
		refs[i], datas[i] = block(uint64(i), 32<<10)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			p := make([]byte, 5000)
			for range 200 {
				i := rnd.IntN(blocks)
				switch rnd.IntN(8) {
				case 0, 1, 2:
					if err := c.Put(refs[i], datas[i]); err != nil && !errors.Is(err, ErrFull) {
						t.Errorf("Put: %v", err)
					}
				case 3, 4:
					got, err := c.Get(refs[i])
					if err == nil && !bytes.Equal(got, datas[i]) {
						t.Error("Get: wrong bytes")
					} else if err != nil && !errors.Is(err, ErrMiss) {
						t.Errorf("Get: %v", err)
					}
				case 5, 6:
					off := rnd.IntN(32 << 10)
					n, err := c.ReadRange(refs[i], p, int64(off))
					if err == nil && !bytes.Equal(p[:n], datas[i][off:off+n]) {
						t.Error("ReadRange: wrong bytes")
					} else if err != nil && !errors.Is(err, ErrMiss) {
						t.Errorf("ReadRange: %v", err)
					}
				case 7:
					c.Pin(refs[i%8])
					c.Unpin(refs[i%8])
				}
				if s := c.Stats(); s.Bytes > s.Limit {
					t.Errorf("got %d bytes, limit %d", s.Bytes, s.Limit)
				}
			}
		})
	}
	wg.Wait()
	s := c.Stats()
	if s.Damaged != 0 {
		t.Errorf("got %d damaged chunks, want 0", s.Damaged)
	}
	if got := int64(len(chunkFiles(t, c.dir))); got != s.Chunks || s.Bytes != got*32<<10 {
		t.Errorf("got %d files, index says %d chunks, %d bytes", got, s.Chunks, s.Bytes)
	}
}

// PutVerified takes its caller's word, so that a chunk is hashed once on its
// way in. A word that was wrong does not outlive the process: the first read
// after opening verifies.
func TestPutVerified(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("verified"), 1000)
	r, other := chunk.Raw(data), chunk.Raw([]byte("other"))
	if err := c.PutVerified(r, data); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if err := c.Put(other, data); !errors.Is(err, chunk.ErrMismatch) {
		t.Errorf("Put of other bytes: got %v, want %v", err, chunk.ErrMismatch)
	}
	if c.Has(other) {
		t.Error("what does not match is held")
	}
	if err := c.PutVerified(other, data); err != nil { // not hashed, so not noticed
		t.Errorf("PutVerified hashed once more: %v", err)
	}
	if err := c.PutVerified(r, make([]byte, chunk.MaxBlock+1)); !errors.Is(err, chunk.ErrMismatch) {
		t.Errorf("too long: got %v, want %v", err, chunk.ErrMismatch)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err = Open(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := c.Get(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after reopening: got %d bytes, %v", len(got), err)
	}
	if _, err := c.Get(other); !errors.Is(err, ErrMiss) {
		t.Errorf("wrong bytes after reopening: got %v, want %v", err, ErrMiss)
	}
}
