package chunk

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

var benchSize = flag.Int64("benchsize", 256<<20, "bytes of the file that BenchmarkImport hashes")

// stripedFile writes a file of size bytes and leaves it in the page cache.
func stripedFile(t testing.TB, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "striped"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	src, buf := newStriped(size), make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		n, _ := src.ReadAt(buf, off)
		if _, err := f.Write(buf[:n]); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func BenchmarkImport(b *testing.B) {
	f := stripedFile(b, *benchSize)
	for _, workers := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("file/workers=%d", workers), func(b *testing.B) {
			b.SetBytes(*benchSize)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := profile.file(b.Context(), f, *benchSize, nil, workers); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("reader", func(b *testing.B) {
		b.SetBytes(*benchSize)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.Seek(0, 0); err != nil {
				b.Fatal(err)
			}
			if _, err := ImportReader(b.Context(), f, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkImportTree imports 1 000 files of 5 000 bytes in 10 folders.
func BenchmarkImportTree(b *testing.B) {
	dir := b.TempDir()
	for i := range 1000 {
		name := filepath.Join(dir, fmt.Sprint(i%10), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, formula(uint64(i), 5000), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ImportTree(b.Context(), os.DirFS(dir), ".", nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads 128 KiB at a time, as a drive does.
func BenchmarkRead(b *testing.B) {
	src := formula(1, 64<<20)
	m := newMemory(src)
	e, err := ImportFile(b.Context(), bytes.NewReader(src), int64(len(src)), m)
	if err != nil {
		b.Fatal(err)
	}
	for name, g := range map[string]Getter{"whole": m, "ranged": &ranged{memory: m}} {
		b.Run(name, func(b *testing.B) {
			f, err := OpenFile(b.Context(), g, e.Ref)
			if err != nil {
				b.Fatal(err)
			}
			p := make([]byte, 128<<10)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			off := int64(0)
			for b.Loop() {
				if _, err := f.ReadAt(b.Context(), p, off); err != nil {
					b.Fatal(err)
				}
				off = (off + int64(len(p))) % int64(len(src))
			}
		})
	}
}

func BenchmarkOpenFile(b *testing.B) {
	src := newStriped(1 << 30)
	m := newStore()
	e, err := ImportFile(b.Context(), src, src.size, m)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := OpenFile(b.Context(), m, e.Ref); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFolder(b *testing.B) {
	var list []Entry
	for i := range 12000 {
		list = append(list, Entry{Name: fmt.Sprintf("file-%05d.txt", i), Ref: Raw(fmt.Append(nil, i)), Total: 5})
	}
	m := newStore()
	b.Run("encode-12000", func(b *testing.B) {
		for b.Loop() {
			if _, err := EncodeFolder(list, m); err != nil {
				b.Fatal(err)
			}
		}
	})
	e, err := EncodeFolder(list, m)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("list-12000", func(b *testing.B) {
		for b.Loop() {
			d, err := OpenDir(b.Context(), m, e.Ref)
			if err != nil {
				b.Fatal(err)
			}
			if err := d.Each(b.Context(), func(Entry) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("lookup", func(b *testing.B) {
		d, err := OpenDir(b.Context(), m, e.Ref)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := d.Lookup(b.Context(), "file-07777.txt"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

var paired = flag.Bool("openssl", false, "measure the import of 1 GiB against openssl dgst -sha256, in turns")

// TestImportAgainstOpenssl measures both on the same file in the page cache, in
// turns, and asks for a median of at most 1.2 times openssl's.
func TestImportAgainstOpenssl(t *testing.T) {
	if !*paired {
		t.Skip("a measurement: run with -openssl on a quiet machine")
	}
	f := stripedFile(t, 1<<30)
	var own, theirs []time.Duration
	cpu := func(who int) time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	cpuOwn, cpuTheirs := cpu(syscall.RUSAGE_SELF), cpu(syscall.RUSAGE_CHILDREN)
	for range 5 {
		start := time.Now()
		if err := exec.Command("openssl", "dgst", "-sha256", f.Name()).Run(); err != nil {
			t.Fatal(err)
		}
		theirs = append(theirs, time.Since(start))
		start = time.Now()
		if _, err := ImportFile(t.Context(), f, 1<<30, newStore()); err != nil {
			t.Fatal(err)
		}
		own = append(own, time.Since(start))
	}
	cpuOwn, cpuTheirs = cpu(syscall.RUSAGE_SELF)-cpuOwn, cpu(syscall.RUSAGE_CHILDREN)-cpuTheirs
	t.Logf("CPU for 1 GiB: import %v, openssl %v", cpuOwn/5, cpuTheirs/5)
	slices.Sort(own)
	slices.Sort(theirs)
	ratio := own[2].Seconds() / theirs[2].Seconds()
	t.Logf("median of 5, 1 GiB: import %v, openssl %v, ratio %.2f", own[2], theirs[2], ratio)
	if ratio > 1.2 {
		t.Errorf("ratio: got %.2f, want at most 1.2", ratio)
	}
}
