package main

import (
	"crypto/sha256"
	"io"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BenchmarkCachedRead reads a file of 256 MiB from the reader's drive whose
// chunks all are in the reader's cache, its pages dropped before each round.
// The file came through six relays first, every byte verified; the relays'
// counters show that no later round asked the network. It reports MiB/s, how
// many times the network's rate that is (x-network), the network's rate
// itself, and the reader's processor seconds a GiB.
func BenchmarkCachedRead(b *testing.B) {
	const size = 256 << 20
	d := network(b)
	file, sum := shareRandom(b, d, "benchmark.bin", size)
	f, err := os.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	verify := func() time.Duration {
		start := time.Now()
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
			b.Fatal(err)
		}
		took := time.Since(start)
		if [32]byte(h.Sum(nil)) != sum {
			b.Fatal("read other bytes")
		}
		return took
	}
	network := verify()
	if got, err := xattr(file, "user.wanderfs.cached"); err != nil || got != "100" {
		b.Fatalf("the cache holds %q percent of the file (%v), want 100", got, err)
	}
	carried := func() (sum uint64) {
		all, err := d.carried(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range all {
			sum += n
		}
		return sum
	}
	before := carried()
	reader := d.reader.cmd.Process.Pid
	buf := make([]byte, 1<<20)
	var took time.Duration
	var spent float64
	b.SetBytes(size)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		dropPages(b, f, size)
		used := cpu(b, reader)
		b.StartTimer()
		start := time.Now()
		for off := int64(0); off < size; {
			n, err := f.ReadAt(buf, off)
			if n == 0 {
				b.Fatal(err)
			}
			off += int64(n)
		}
		took += time.Since(start)
		b.StopTimer()
		spent += cpu(b, reader) - used
	}
	dropPages(b, f, size)
	verify() // from the cache, too
	if got := carried() - before; got > size {
		b.Errorf("relays carried %d bytes while the file was in the cache", got)
	}
	rate := float64(b.N) * size / took.Seconds()
	b.ReportMetric(rate/(1<<20), "MiB/s")
	b.ReportMetric(rate*network.Seconds()/size, "x-network")
	b.ReportMetric(size/(1<<20)/network.Seconds(), "network-MiB/s")
	b.ReportMetric(spent/(float64(b.N)*size/(1<<30)), "reader-cpu-s/GiB")
}

func xattr(name, key string) (string, error) {
	buf := make([]byte, 64)
	n, err := unix.Getxattr(name, key, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// dropPages takes the file's pages from the kernel's page cache, and makes
// sure that it did.
func dropPages(b *testing.B, f *os.File, size int) {
	b.Helper()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		b.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Munmap(m)
	in := make([]byte, (size+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, no := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&in[0]))); no != 0 {
		b.Fatal(no)
	}
	held := 0
	for _, p := range in {
		held += int(p & 1)
	}
	if held > len(in)/100 {
		b.Fatalf("%d of %d pages are still in the page cache", held, len(in))
	}
}
