package main

import (
	stdbytes "bytes"
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"wanderfs/node/control"
)

// newOpenWorld is a world of public addresses, without --lab: nodes find out
// by themselves whether they can be dialled. No packet leaves the namespaces.
func newOpenWorld(t *testing.T, snap int) *world {
	t.Helper()
	w := newWorld(t, snap)
	w.first = 11
	w.flags = slices.DeleteFunc(w.flags, func(f string) bool { return f == "--lab" })
	return w
}

// openRelays is relays of which it is known that they can be dialled; all later
// nodes find out for themselves.
func (w *world) openRelays(n int) []*child {
	w.t.Helper()
	before := w.flags
	w.flags = append(before[:len(before):len(before)], "--reachability", "public")
	all := w.relays(n)
	w.flags = append(before[:len(before):len(before)], w.flags[len(before)+2:]...)
	return all
}

// behindNAT makes the namespace of a node behind a router of its own, which
// masquerades: the hub sees the router's address alone.
func (w *world) behindNAT(name string) {
	w.t.Helper()
	i := len(w.hosts) + 1
	ns, router := w.ns(name), w.ns(name+"-nat")
	w.routers[name] = w.plug(router, i)
	inner := netip.AddrFrom4([4]byte{192, 168, byte(i), 1})
	w.hosts[name] = inner.Next().String()
	w.ip("netns", "add", ns)
	w.ip("link", "add", "in0", "netns", router, "type", "veth", "peer", "name", "eth0", "netns", ns)
	w.ip("-n", router, "addr", "add", inner.String()+"/24", "dev", "in0")
	w.ip("-n", router, "link", "set", "in0", "up")
	w.ip("-n", ns, "link", "set", "lo", "up")
	w.ip("-n", ns, "addr", "add", w.hosts[name]+"/24", "dev", "eth0")
	w.ip("-n", ns, "link", "set", "eth0", "up")
	w.ip("-n", ns, "route", "add", "default", "via", inner.String())
	w.in(router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
	w.in(router, "nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; "+
		"add rule ip nat post oifname eth0 masquerade; "+
		"add chain ip nat forward { type filter hook forward priority 0; }; "+ // what no node inside began stays outside
		"add rule ip nat forward iifname eth0 ct state new drop")
}

// in runs a command in a namespace.
func (w *world) in(ns string, args ...string) {
	w.t.Helper()
	args = append([]string{"--net=/run/netns/" + ns}, args...)
	if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// TestBothEndsBehindNAT lets two nodes behind masquerading routers find out
// that nobody can dial them; one shares, the other reads, both ways.
func TestBothEndsBehindNAT(t *testing.T) {
	w := newOpenWorld(t, 0)
	w.behindNAT("publisher")
	w.behindNAT("reader")
	w.behindNAT("masked")
	w.wall("walled") // a public address, and a firewall
	w.openRelays(worldRelays - 1)

	start := time.Now()
	open, walled := w.start("open", false), w.start("walled", false)
	masked, publisher := w.start("masked", false), w.start("publisher", true)
	w.without = "choice" // it takes relays that nobody can dial wherever one fits
	reader := w.start("reader", true)
	w.without = ""
	for c, want := range map[*child]string{open: "public", walled: "private", masked: "private", publisher: "private", reader: "private"} {
		s := w.await(c, "its reachability", func(s control.Status) bool {
			return s.Reachability != "unknown" && s.SuperNode == (s.Reachability == "public") // soon after: a descriptor is signed anew
		})
		t.Logf("%s after %v", s.Reachability, time.Since(start).Round(time.Second))
		if s.Reachability != want {
			t.Errorf("%s takes itself for %s, want %s", c.name, s.Reachability, want)
		}
	}
	var secrets []secret
	inner := map[netip.Addr]string{}
	for _, c := range []*child{publisher, reader} {
		s := w.await(c, "a path", func(s control.Status) bool { return s.Ready })
		if len(s.Addrs) != 0 {
			t.Errorf("%s tells addresses though nobody can dial it: %v", c.name, s.Addrs)
		}
		a := netip.MustParseAddr(w.hosts[c.name])
		mapped := a.As16()
		m, err := ma.NewMultiaddr("/ip4/" + w.hosts[c.name] + "/tcp/4001")
		if err != nil {
			t.Fatal(err)
		}
		what := "inner address of the " + c.name
		inner[a] = what
		secrets = append(secrets, secret{what, []byte(w.hosts[c.name])}, secret{what, m.Bytes()}, secret{what, mapped[4:]})
	}
	from, to := publisher, reader
	for _, name := range []string{"masked heron.bin", "veiled otter.bin"} { // and the other way round
		content := make([]byte, 3<<20)
		_, _ = rand.Read(content)
		w.shareFile(from, name, content)
		found := w.find(to, strings.Fields(name)[0], name, 2*time.Minute)
		got, err := os.ReadFile(found)
		if err != nil {
			t.Fatal(err)
		}
		if !stdbytes.Equal(got, content) {
			t.Errorf("read %d other bytes", len(got))
		}
		from, to = to, from
	}

	// Nodes that nobody can dial have carried what others read, or do so soon.
	quiet := []*child{walled, masked, publisher}
	carried := func() (n uint64) {
		for _, c := range quiet {
			s, err := c.client.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n += s.Relayed.Bytes
		}
		return n
	}
	start = time.Now() // others hear of them at the next exchange, a minute later in the mean
	for i := 0; carried() < 256<<10; i++ {
		if time.Since(start) > 3*time.Minute {
			t.Errorf("nodes that nobody can dial have carried %d bytes", carried())
			break
		}
		content := make([]byte, 1<<20)
		_, _ = rand.Read(content)
		cid := w.shareFile(publisher, fmt.Sprintf("part %d.bin", i), content)
		if got, err := os.ReadFile(filepath.Join(reader.mnt, "hash", cid)); err != nil || !stdbytes.Equal(got, content) {
			t.Fatalf("read %d bytes: %v", len(got), err)
		}
	}
	t.Logf("nodes that nobody can dial have carried %d bytes", carried())
	outer := []netip.Addr{netip.MustParseAddr(w.routers["publisher"]), netip.MustParseAddr(w.routers["reader"])}
	direct, leaked := 0, map[string]int{}
	all, err := w.stopCapture().each(func(p packet) {
		if p.src != p.dst && slices.Contains(outer, p.src) && slices.Contains(outer, p.dst) {
			direct++
		}
		for _, a := range []netip.Addr{p.src, p.dst} {
			if what, ok := inner[a]; ok {
				leaked[what]++
			}
		}
		for _, what := range leaks(p.body, secrets) {
			leaked[what]++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if all < 7*2*3<<20/65536 {
		t.Errorf("the capture holds %d packets: it did not see the transfers", all)
	}
	if direct != 0 {
		t.Errorf("%d packets went between the two", direct)
	}
	for what, n := range leaked {
		t.Errorf("the %s is in %d packets", what, n)
	}
}
