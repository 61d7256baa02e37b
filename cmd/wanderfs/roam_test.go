package main

import (
	stdbytes "bytes"
	"crypto/rand"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"wanderfs/node/control"
)

// roams makes the namespace of a node that can be at home, where it has a
// public address, and away, behind a router that masquerades. It is away.
func (w *world) roams(name string) {
	w.t.Helper()
	w.behindNAT(name)
	i := 100 + len(w.hosts)
	w.homes[name] = netip.AddrFrom4([4]byte{byte(w.first), byte(i), 0, 1})
	w.plugIn(w.ns(name), i, "home0")
}

// goHome gives the node its public address in place of the one behind the router.
func (w *world) goHome(name string) {
	w.t.Helper()
	ns := w.ns(name)
	w.ip("-n", ns, "addr", "flush", "dev", "eth0")
	w.ip("-n", ns, "addr", "add", w.homes[name].String()+"/8", "dev", "home0")
}

// leave is the reverse of goHome.
func (w *world) leave(name string) {
	w.t.Helper()
	ns, inner := w.ns(name), netip.MustParseAddr(w.hosts[name])
	w.ip("-n", ns, "addr", "flush", "dev", "home0")
	w.ip("-n", ns, "addr", "add", inner.String()+"/24", "dev", "eth0")
	w.ip("-n", ns, "route", "add", "default", "via", inner.Prev().String())
}

// reading is a file that is read from its start to its end, however long it
// takes.
type reading struct {
	done    chan struct{}
	got     []byte
	err     error
	longest time.Duration // between two parts
}

func beginReading(file string) *reading {
	r := &reading{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		f, err := os.Open(file)
		if err != nil {
			r.err = err
			return
		}
		defer f.Close()
		part := make([]byte, 64<<10)
		for last := time.Now(); ; last = time.Now() {
			n, err := f.Read(part)
			r.longest = max(r.longest, time.Since(last))
			r.got = append(r.got, part[:n]...)
			if err != nil {
				if err != io.EOF {
					r.err = err
				}
				return
			}
		}
	}()
	return r
}

// TestRoaming moves a node that runs from a public address behind a NAT and
// back. It finds out what it is each time, a read in progress goes on, and what
// it shares can be read at either place.
func TestRoaming(t *testing.T) {
	w := newOpenWorld(t, 64)
	w.roams("roamer")
	w.goHome("roamer")
	w.openRelays(worldRelays - 1)
	other := w.drive("other", "--reachability", "public", "--up-limit", "2MiB")
	start := time.Now()
	roamer := w.start("roamer", true)
	is := func(want string) control.Status {
		t.Helper()
		s := w.await(roamer, "to be "+want, func(s control.Status) bool {
			return s.Reachability == want && s.SuperNode == (want == "public") && s.Ready
		})
		t.Logf("%s after %v", want, time.Since(start).Round(time.Second))
		if told := len(s.Addrs) > 0; told != (want == "public") {
			t.Errorf("it is %s and tells addresses: %v", want, s.Addrs)
		}
		return s
	}
	is("public")
	for i, move := range []struct {
		to   func(string)
		want string
	}{{w.leave, "private"}, {w.goHome, "public"}} {
		long, short := make([]byte, 24<<20), make([]byte, 1<<20)
		_, _ = rand.Read(long)
		_, _ = rand.Read(short)
		cid := w.shareFile(other, []string{"first long.bin", "second long.bin"}[i], long)
		mine := w.shareFile(roamer, []string{"first mine.bin", "second mine.bin"}[i], short)
		r := beginReading(filepath.Join(roamer.mnt, "hash", cid))
		w.await(roamer, "a transfer", func(s control.Status) bool {
			return slices.ContainsFunc(s.Transfers, func(t control.Transfer) bool { return t.Done > 1<<20 })
		})
		start = time.Now()
		move.to("roamer")
		is(move.want)
		<-r.done
		t.Logf("read %d bytes with a pause of %v", len(r.got), r.longest.Round(time.Second))
		if r.err != nil || !stdbytes.Equal(r.got, long) {
			t.Errorf("a read over the move to %s: %d bytes and %v, want %d", move.want, len(r.got), r.err, len(long))
		}
		if got, err := os.ReadFile(filepath.Join(other.mnt, "hash", mine)); err != nil || !stdbytes.Equal(got, short) {
			t.Errorf("what it shared before: %d bytes and %v", len(got), err)
		}
		fresh := w.shareFile(roamer, []string{"third mine.bin", "fourth mine.bin"}[i], short[1:])
		if got, err := os.ReadFile(filepath.Join(other.mnt, "hash", fresh)); err != nil || !stdbytes.Equal(got, short[1:]) {
			t.Errorf("what it shares there: %d bytes and %v", len(got), err)
		}
	}
}

// TestFirewallCloses lets a firewall shut a node off that others could dial, and
// open again, without a change of address. The others hear of it.
func TestFirewallCloses(t *testing.T) {
	const relays = 7
	w := newOpenWorld(t, 64)
	first := w.openRelays(relays)[0]
	w.program = buildHurried
	node := w.start("node", false)
	start := time.Now()
	is := func(want string, known int) {
		t.Helper()
		w.await(node, "to be "+want, func(s control.Status) bool {
			return s.Reachability == want && s.SuperNode == (want == "public") && s.Ready
		})
		w.await(first, "to hear that", func(s control.Status) bool { return s.RelaysKnown == known })
		t.Logf("%s after %v", want, time.Since(start).Round(time.Second))
		start = time.Now()
	}
	is("public", relays)
	w.wall("node")
	is("private", relays-1)
	w.unwall("node")
	is("public", relays)
}
