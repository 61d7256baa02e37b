package cache

import (
	"os"
	"path/filepath"
	"testing"

	"wanderfs/cache/chunk"
)

const benchChunks = 64 // of 1 MiB

func benchCache(b *testing.B) (Config, *Cache, []chunk.Ref) {
	cfg := Config{Dir: b.TempDir()}
	c := open1(b, cfg)
	var refs []chunk.Ref
	for i := range uint64(benchChunks) {
		r, _ := put(b, c, i, chunk.Size)
		refs = append(refs, r)
	}
	return cfg, c, refs
}

func BenchmarkPut(b *testing.B) {
	c := open1(b, Config{Dir: b.TempDir(), Limit: 256 << 20})
	_, data := block(1, chunk.Size)
	b.SetBytes(chunk.Size)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		data[0], data[1], data[2] = byte(i), byte(i>>8), byte(i>>16)
		r := chunk.Raw(data)
		b.StartTimer()
		if err := c.Put(r, data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	_, c, refs := benchCache(b)
	b.SetBytes(chunk.Size)
	for i := 0; b.Loop(); i++ {
		if _, err := c.Get(refs[i%benchChunks]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadRangeHot(b *testing.B) {
	_, c, refs := benchCache(b)
	p := make([]byte, 128<<10)
	b.SetBytes(int64(len(p)))
	for i := 0; b.Loop(); i++ {
		if n, err := c.ReadRange(refs[i/8%benchChunks], p, int64(i%8)*int64(len(p))); err != nil || n != len(p) {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkRawPread is what ReadRange is measured against.
func BenchmarkRawPread(b *testing.B) {
	cfg, _, _ := benchCache(b)
	var files []*os.File
	for _, name := range chunkFiles(b, cfg.Dir) {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	p := make([]byte, 128<<10)
	b.SetBytes(int64(len(p)))
	for i := 0; b.Loop(); i++ {
		if _, err := files[i/8%benchChunks].ReadAt(p, int64(i%8)*int64(len(p))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadFirst reads whole chunks in pieces of 128 KiB, each for the
// first time after opening.
func BenchmarkReadFirst(b *testing.B) {
	cfg, c, refs := benchCache(b)
	p := make([]byte, 128<<10)
	b.SetBytes(chunk.Size)
	for i := 0; b.Loop(); i++ {
		if i%benchChunks == 0 {
			b.StopTimer()
			_ = c.Close()
			c = open1(b, cfg)
			b.StartTimer()
		}
		for off := int64(0); off < chunk.Size; off += int64(len(p)) {
			if _, err := c.ReadRange(refs[i%benchChunks], p, off); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkOpen opens a cache of 20 000 chunks.
func BenchmarkOpen(b *testing.B) {
	cfg := Config{Dir: b.TempDir()}
	c := open1(b, cfg)
	for i := range uint64(20_000) {
		put(b, c, i, 100)
	}
	for b.Loop() {
		_ = c.Close()
		var err error
		if c, err = Open(cfg); err != nil {
			b.Fatal(err)
		}
	}
	if got := c.Stats().Chunks; got != 20_000 {
		b.Errorf("got %d chunks", got)
	}
	_ = c.Close()
	_ = os.Remove(filepath.Join(cfg.Dir, "lock"))
}
