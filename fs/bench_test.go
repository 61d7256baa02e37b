package fs_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"wanderfs/cache/chunk"
	"wanderfs/fs/fusetest"
)

func cpuSeconds(b *testing.B) float64 {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e9
}

// run measures a script that moves size bytes; before prepares each round.
func run(b *testing.B, d *fusetest.Drive, size int64, before, script string) {
	b.SetBytes(size)
	b.ReportAllocs()
	var cpu float64
	for b.Loop() {
		b.StopTimer()
		d.Sh(b, before)
		was := cpuSeconds(b)
		b.StartTimer()
		d.Sh(b, script)
		b.StopTimer()
		cpu += cpuSeconds(b) - was
		b.StartTimer()
	}
	b.ReportMetric(cpu/float64(b.N)*float64(1<<30)/float64(size), "cpu-s/GiB")
}

// BenchmarkRead reads 256 MiB that the Library has in memory, by a dd of its
// own process. "cold" drops the file's pages before every round, with the
// posix_fadvise(DONTNEED) that dd does for iflag=nocache count=0.
func BenchmarkRead(b *testing.B) {
	const size = 256 << 20
	d, l, _ := drive(b)
	f := l.File(make([]byte, size))
	p := "$M/hash/" + f.Ref.Name()
	drop := "dd if=" + p + " iflag=nocache count=0 status=none"
	b.Run("cold", func(b *testing.B) { run(b, d, size, drop, "dd if="+p+" of=/dev/null bs=1M status=none") })
	b.Run("again", func(b *testing.B) { run(b, d, size, "true", "dd if="+p+" of=/dev/null bs=1M status=none") })
}

// BenchmarkShared writes and reads 64 MiB through shared/.
func BenchmarkShared(b *testing.B) {
	const size = 64 << 20
	d, _, _ := drive(b)
	b.Run("write", func(b *testing.B) {
		run(b, d, size, "rm -f $M/shared/f", "dd if=/dev/zero of=$M/shared/f bs=1M count=64 status=none")
	})
	b.Run("read", func(b *testing.B) {
		run(b, d, size, "dd if=$M/shared/f iflag=nocache count=0 status=none", "dd if=$M/shared/f of=/dev/null bs=1M status=none")
	})
}

// BenchmarkList is ls -l of 10 000 names: once as the kernel knows none of
// them, and again.
func BenchmarkList(b *testing.B) {
	const names = 10_000
	d, l, _ := drive(b)
	var entries []chunk.Entry
	for i := range names {
		entries = append(entries, fusetest.Named(fmt.Sprintf("%05d", i), l.File([]byte(fmt.Sprint(i)))))
	}
	round := 0
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			round++
			dir := l.Folder(fmt.Sprint("list", round), entries...)
			d.Sh(b, "ls -l $M/hash/"+dir.Ref.Name()+" >/dev/null")
		}
	})
	dir := l.Folder("again", entries...)
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			d.Sh(b, "ls -l $M/hash/"+dir.Ref.Name()+" >/dev/null")
		}
	})
}
