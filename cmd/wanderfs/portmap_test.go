package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wanderfs/node/control"
)

// listenIn opens a UDP socket in another network namespace.
func listenIn(t *testing.T, ns, addr string) net.PacketConn {
	t.Helper()
	type result struct {
		c   net.PacketConn
		err error
	}
	made := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		f, err := os.Open("/run/netns/" + ns)
		if err != nil {
			made <- result{nil, err}
			return
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			made <- result{nil, err}
			return
		}
		c, err := net.ListenPacket("udp4", addr)
		made <- result{c, err}
	}()
	r := <-made
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.c
}

// portMapper lets the router of a node forward ports on request, by NAT-PMP
// (RFC 6886), and counts what it is asked.
func (w *world) portMapper(name string) *atomic.Int64 {
	w.t.Helper()
	router := w.ns(name + "-nat")
	inner := netip.MustParseAddr(w.hosts[name])
	outer := netip.MustParseAddr(w.routers[name]).As4()
	w.in(router, "nft", "add chain ip nat pre { type nat hook prerouting priority -100; }; "+
		"insert rule ip nat forward iifname eth0 ct status dnat accept")
	c := listenIn(w.t, router, inner.Prev().String()+":5351")
	asked, done := new(atomic.Int64), make(chan struct{})
	w.t.Cleanup(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 64)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			asked.Add(1)
			switch {
			case n >= 2 && buf[0] == 0 && buf[1] == 0: // what is my address?
				_, _ = c.WriteTo(append([]byte{0, 128, 0, 0, 0, 0, 0, 1}, outer[:]...), from)
			case n >= 12 && buf[0] == 0 && buf[1] == 2: // forward a TCP port
				in, out := binary.BigEndian.Uint16(buf[4:]), binary.BigEndian.Uint16(buf[6:])
				if out == 0 {
					out = in
				}
				if binary.BigEndian.Uint32(buf[8:]) > 0 {
					w.in(router, "nft", fmt.Sprintf("add rule ip nat pre iifname eth0 tcp dport %d dnat to %s:%d", out, inner, in))
				}
				ans := []byte{0, 130, 0, 0, 0, 0, 0, 1}
				ans = binary.BigEndian.AppendUint16(ans, in)
				ans = binary.BigEndian.AppendUint16(ans, out)
				_, _ = c.WriteTo(append(ans, buf[8:12]...), from)
			}
		}
	}()
	return asked
}

// TestRouterForwardsAPort lets one node behind NAT ask its router for a port,
// become public and relay; another one must not ask.
func TestRouterForwardsAPort(t *testing.T) {
	w := newOpenWorld(t, 64)
	w.behindNAT("asker")
	w.behindNAT("silent")
	askedBy, askedBySilent := w.portMapper("asker"), w.portMapper("silent")
	w.openRelays(6)
	w.flags = slices.DeleteFunc(w.flags, func(f string) bool { return f == "--no-upnp" })
	start := time.Now()
	asker := w.start("asker", false)
	silent := w.start("silent", false, "--no-upnp")
	known := func(s control.Status) bool { return s.Reachability != "unknown" }
	s := w.await(asker, "its reachability", func(s control.Status) bool { return s.Reachability == "public" && s.SuperNode })
	t.Logf("public after %v and %d questions", time.Since(start).Round(time.Second), askedBy.Load())
	if len(s.Addrs) != 1 || !strings.HasPrefix(s.Addrs[0], "/ip4/"+w.routers["asker"]+"/tcp/") {
		t.Errorf("got addresses %v, want the router's", s.Addrs)
	}
	if s := w.await(silent, "its reachability", known); s.Reachability != "private" || askedBySilent.Load() != 0 {
		t.Errorf("with --no-upnp a node is %s and asks %d times", s.Reachability, askedBySilent.Load())
	}
	if c := w.nodes["r1"]; c != nil {
		w.await(c, "the forwarded relay", func(s control.Status) bool { return s.RelaysKnown >= 6 })
	}
}
