package share

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"wanderfs/cache/chunk"
)

// cpu is what this process has used: wall time tells little where others run.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// many makes n small files, 100 in a folder.
func many(t testing.TB, dir string, n int) {
	t.Helper()
	for i := range n {
		name := filepath.Join(dir, fmt.Sprintf("d%03d", i/100), fmt.Sprintf("file %d", i))
		if i%100 == 0 {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(name, fmt.Appendf(nil, "content %d", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkUnchanged is a rescan of 100 000 unchanged files, and opening the
// catalogue of them.
func BenchmarkUnchanged(b *testing.B) {
	const n = 100_000
	c := conf(b.TempDir())
	many(b, c.Dir, n)
	s := open(b, c)
	until(b, s, "all are hashed", func() bool { return s.Stats().Hashing == 0 && len(s.Items()) == n+n/100 })
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("reopen", func(b *testing.B) {
		var used time.Duration
		for b.Loop() {
			start := cpu()
			s, err := Open(b.Context(), c)
			if err != nil {
				b.Fatal(err)
			}
			if len(s.Items()) != n+n/100 {
				b.Fatal("not all are there at once")
			}
			used += cpu() - start
			b.StopTimer()
			_ = s.Close()
			b.StartTimer()
		}
		b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/op")
	})
	b.Run("rescan", func(b *testing.B) {
		s := open(b, c)
		until(b, s, "it is at rest", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return !s.full && s.busy == 0 })
		src := s.sources[0]
		start := cpu()
		for b.Loop() {
			s.scanSource(src)
		}
		b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
	})
}

// BenchmarkBlock gives chunks that are not in memory: read and hashed.
func BenchmarkBlock(b *testing.B) {
	c := conf(b.TempDir())
	c.Verified = 1
	data := bytesOf(128*chunk.Size, 1)
	put(b, filepath.Join(c.Dir, "a"), data)
	s := open(b, c)
	it := has(b, s, "a", data)
	var refs []chunk.Ref
	for i := range 128 {
		refs = append(refs, chunk.Raw(data[i*chunk.Size:(i+1)*chunk.Size]))
	}
	b.SetBytes(chunk.Size)
	i := 0
	start := cpu()
	defer func() { b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op") }()
	for b.Loop() {
		if _, err := s.Block(b.Context(), refs[i%len(refs)], it.Group); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
