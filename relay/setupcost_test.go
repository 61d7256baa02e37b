package relay_test

import (
	"crypto/ed25519"
	"net/netip"
	"runtime"

	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// BenchmarkSetUpCost tells what a set-up packet of one hop costs who makes it,
// and what it costs the relay: to open it and to make the reply, to find out
// that it is none, and to know it again.
func BenchmarkSetUpCost(b *testing.B) {
	_, id, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	key, err := wire.NewPrivateKey()
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	d := wire.Descriptor{Onion: key.Public(), Issued: now, Expires: now.Add(time.Hour), Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")}}
	if err := d.Sign(id, relaytest.Name); err != nil {
		b.Fatal(err)
	}
	packet := func() []byte {
		p, _, err := wire.NewSetup(relaytest.Name, []wire.Descriptor{d})
		if err != nil {
			b.Fatal(err)
		}
		return p
	}
	run := func(what string, f func(b *testing.B)) { // processor time: what else the machine does is left out
		b.Run(what, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			before := threadTime(b)
			for range b.N {
				f(b)
			}
			b.ReportMetric(float64((threadTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
	run("make", func(*testing.B) { packet() })
	p := packet()
	run("open and reply", func(b *testing.B) {
		s, err := wire.OpenSetup(relaytest.Name, d.Node, key, append([]byte(nil), p...))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Reply(wire.StatusOK, nil); err != nil {
			b.Fatal(err)
		}
	})
	bad := append([]byte(nil), p...)
	bad[len(bad)-1] ^= 1
	bad[wire.FrameSize/8] ^= 1
	run("refuse", func(b *testing.B) {
		if _, err := wire.OpenSetup(relaytest.Name, d.Node, key, append([]byte(nil), bad...)); err == nil {
			b.Fatal("a changed packet opens")
		}
	})
}

// threadTime gives the processor time that this thread has used.
func threadTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
