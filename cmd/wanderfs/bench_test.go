package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"wanderfs/node/control"
)

// cpu returns the processor seconds that a process has used so far.
func cpu(tb testing.TB, pid int) float64 {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	user, _ := strconv.ParseFloat(f[11], 64) // proc(5): utime, stime in ticks
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}

// network starts the demo's processes, until the benchmark is over.
func network(b *testing.B) *demo {
	b.Helper()
	if !haveFuse() {
		b.Skip("fuse3 is not installed")
	}
	d := &demo{dir: b.TempDir(), out: io.Discard, program: build(b)}
	b.Cleanup(func() {
		if err := d.close(); err != nil {
			b.Error(err)
		}
	})
	if err := d.start(b.Context()); err != nil {
		b.Fatal(err)
	}
	return d
}

// shareRandom copies random bytes into the publisher's drive. It returns
// where they are on the reader's, once they can be found, and their SHA-256.
func shareRandom(b *testing.B, d *demo, name string, size int64) (file string, sum [32]byte) {
	b.Helper()
	h := sha256.New()
	if err := writeFile(b.Context(), filepath.Join(d.publisher.mnt, "shared", name), io.TeeReader(io.LimitReader(rand.Reader, size), h)); err != nil {
		b.Fatal(err)
	}
	cid := awaitPublished(b, d.publisher, name)
	return filepath.Join(d.reader.mnt, "hash", cid), [32]byte(h.Sum(nil))
}

// BenchmarkSixRelays copies random files of 256 MiB from mount to mount
// through six relays, every node its own process, and verifies each byte. It
// reports MiB/s, the processor seconds a GiB costs summed over all processes,
// and the time to the first byte. Run it with -benchtime 4x.
func BenchmarkSixRelays(b *testing.B) {
	const size = 256 << 20
	d := network(b)
	used := func() (sum float64) {
		for _, c := range d.all() {
			sum += cpu(b, c.cmd.Process.Pid)
		}
		return sum
	}
	var took, first time.Duration
	var spent float64
	b.SetBytes(size)
	for i := range b.N {
		b.StopTimer()
		name := fmt.Sprintf("benchmark%d.bin", i)
		file, sum := shareRandom(b, d, name, size)
		before := used()
		b.StartTimer()
		start := time.Now()
		in, err := os.Open(file)
		if err != nil {
			b.Fatal(err)
		}
		f := &firstByte{Reader: in, start: start}
		got := sha256.New()
		if _, err := io.CopyBuffer(got, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
			b.Fatal(err)
		}
		took += time.Since(start)
		first += f.after
		b.StopTimer()
		spent += used() - before
		if [32]byte(got.Sum(nil)) != sum {
			b.Fatal("read other bytes")
		}
		if err := in.Close(); err != nil {
			b.Fatal(err)
		}
		if err := os.Remove(filepath.Join(d.publisher.mnt, "shared", name)); err != nil {
			b.Fatal(err)
		}
	}
	n := float64(b.N) * size
	b.ReportMetric(n/(1<<20)/took.Seconds(), "MiB/s")
	b.ReportMetric(spent/(n/(1<<30)), "cpu-s/GiB")
	b.ReportMetric(first.Seconds()*1000/float64(b.N), "ms-to-first-byte")
}

// awaitPublished waits until a shared name can be found; it returns its CID.
func awaitPublished(tb testing.TB, c *child, name string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 3*time.Minute)
	defer cancel()
	var last control.ShareState
	for ctx.Err() == nil {
		st, err := c.client.ShareState(ctx, name)
		if err == nil && st.Phase == "published" {
			return st.CID
		}
		last = st
		<-time.After(childPoll)
	}
	tb.Fatalf("a file is not published: it is %s %s", last.Phase, last.Err)
	return ""
}
