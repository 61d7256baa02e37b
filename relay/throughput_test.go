package relay_test

import (
	"io"
	"syscall"
	"testing"
	"time"

	"wanderfs/relay/relaytest"
)

// BenchmarkSixRelays sends from publisher to reader through six relays in
// memory, all layers included.
func BenchmarkSixRelays(b *testing.B) {
	n := newNet(b, relaytest.Config{})
	w := sixRelays(b, n)
	r, p := w.meet(b, nil)
	defer r.Close()
	defer p.Close()
	const size = 1 << 20
	buf := make([]byte, size)
	b.SetBytes(size)
	b.ReportAllocs()
	before := cpu()
	start := time.Now()
	b.ResetTimer()
	go func() {
		for range b.N {
			if _, err := p.Write(buf); err != nil {
				return
			}
		}
		p.CloseWrite()
	}()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		b.Fatal(err)
	}
	gib := float64(b.N) * size / (1 << 30)
	b.ReportMetric((cpu()-before).Seconds()/gib, "cpu-s/GiB")
	b.ReportMetric(gib*1024/time.Since(start).Seconds(), "MiB/s")
}

// BenchmarkBuild builds a reader's path of four relays.
func BenchmarkBuild(b *testing.B) {
	n := newNet(b, relaytest.Config{Limits: fast})
	for b.Loop() {
		build(b, n, 0, 1, 2, 3).Close()
	}
}

// BenchmarkFirstByte asks and answers one small record on a ready stream.
func BenchmarkFirstByte(b *testing.B) {
	n := newNet(b, relaytest.Config{})
	w := sixRelays(b, n)
	r, p := w.meet(b, nil)
	defer r.Close()
	go func() {
		defer p.Close()
		var x [1]byte
		for {
			if _, err := p.Read(x[:]); err != nil {
				return
			}
			time.Sleep(2 * time.Millisecond) // as a lone request, not a stream
			p.Write(x[:])
		}
	}()
	var x [1]byte
	var sum time.Duration
	k := 0
	for b.Loop() {
		start := time.Now()
		r.Write(x[:])
		if _, err := r.Read(x[:]); err != nil {
			b.Fatal(err)
		}
		sum += time.Since(start) - 2*time.Millisecond
		k++
		time.Sleep(2 * time.Millisecond)
	}
	b.ReportMetric(float64(sum.Microseconds())/float64(k), "us/trip")
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
