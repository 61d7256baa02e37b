package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wanderfs/node/control"
)

// needDaemon skips where the router's daemon is missing; in CI that is a
// failure.
func needDaemon(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("miniupnpd"); err != nil {
		lacking(t, "miniupnpd is not installed")
	}
}

// daemonTable is where miniupnpd keeps what it forwards.
const daemonTable = `table inet upnp {
	chain forward { type filter hook forward priority 0; jump allowed; }
	chain allowed { }
	chain pre { type nat hook prerouting priority -100; jump forwarded; }
	chain post { type nat hook postrouting priority 100; jump masked; }
	chain forwarded { }
	chain masked { }
}`

// daemon runs miniupnpd on the router of a node: a real one's, with the
// protocols that are named.
func (w *world) daemon(name string, upnp, natpmp bool) {
	w.t.Helper()
	router := w.ns(name + "-nat")
	yes := map[bool]string{true: "yes", false: "no"}
	conf := filepath.Join(w.dir, name+".conf")
	text := "ext_ifname=eth0\nlistening_ip=in0\nenable_upnp=" + yes[upnp] + "\nenable_natpmp=" + yes[natpmp] + `
http_port=0
secure_mode=yes
upnp_table_name=upnp
upnp_nat_table_name=upnp
upnp_forward_chain=allowed
upnp_nat_chain=forwarded
upnp_nat_postrouting_chain=masked
uuid=00000000-0000-4000-8000-000000000001
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
`
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.in(router, "nft", daemonTable)
	w.in(router, "nft", "insert rule ip nat forward iifname eth0 ct status dnat accept")
	log, err := os.Create(filepath.Join(w.dir, name+".daemon"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("nsenter", "--net=/run/netns/"+router, "miniupnpd", "-d", "-f", conf, "-P", filepath.Join(w.dir, name+".pid"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if w.t.Failed() {
			b, _ := os.ReadFile(log.Name())
			w.t.Logf("the daemon of %s:\n%s", name, b)
		}
	})
}

// forwards tells to which ports of its node a router forwards.
func (w *world) forwards(name string) []string {
	w.t.Helper()
	out, err := exec.Command("nsenter", "--net=/run/netns/"+w.ns(name+"-nat"), "nft", "list", "chain", "inet", "upnp", "forwarded").Output()
	if err != nil {
		w.t.Fatal(err)
	}
	var to []string
	for line := range strings.Lines(string(out)) {
		if _, at, ok := strings.Cut(line, "dnat ip to "); ok {
			to = append(to, strings.TrimSpace(at))
		}
	}
	return to
}

// eavesdrop records what a node says to its router itself, or to all around
// it. The returned function ends it and gives the packets.
func (w *world) eavesdrop(name string) (stop func() string) {
	w.t.Helper()
	gateway := netip.MustParseAddr(w.hosts[name]).Prev()
	cmd := exec.Command("nsenter", "--net=/run/netns/"+w.ns(name), "tcpdump", "-i", "eth0", "-n", "-l", "-q",
		fmt.Sprintf("ip and src host %s and (multicast or broadcast or dst host %s)", w.hosts[name], gateway))
	var out strings.Builder
	cmd.Stdout = &out
	ready, err := cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		w.t.Fatal(err)
	}
	return func() string {
		w.t.Helper()
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			w.t.Fatal(err)
		}
		_ = cmd.Wait() // tcpdump's status says nothing of use
		return strings.TrimSpace(out.String())
	}
}

// TestRouterDaemon lets nodes behind routers that run a real daemon ask for a
// port, by UPnP and by NAT-PMP: they become public, tell the router's address,
// and give the port back when they end. One that must not ask says nothing to
// its router, nor to anybody around it.
func TestRouterDaemon(t *testing.T) {
	needWorld(t)
	needDaemon(t)
	w := newOpenWorld(t, 64)
	for name, by := range map[string]struct{ upnp, natpmp bool }{
		"by-upnp": {upnp: true}, "by-natpmp": {natpmp: true}, "silent": {true, true},
	} {
		w.behindNAT(name)
		w.daemon(name, by.upnp, by.natpmp)
	}
	said := w.eavesdrop("silent")
	w.openRelays(6)
	w.flags = slices.DeleteFunc(w.flags, func(f string) bool { return f == "--no-upnp" })
	w.flags[slices.Index(w.flags, "info")] = "debug"
	start := time.Now()
	silent := w.start("silent", false, "--no-upnp")
	var askers []*child
	for _, name := range []string{"by-upnp", "by-natpmp"} {
		askers = append(askers, w.start(name, false))
	}
	for _, c := range askers {
		s := w.await(c, "a port", func(s control.Status) bool { return s.Reachability == "public" && s.SuperNode })
		t.Logf("%s: public after %v", c.name, time.Since(start).Round(time.Second))
		if len(s.Addrs) != 1 || !strings.HasPrefix(s.Addrs[0], "/ip4/"+w.routers[c.name]+"/tcp/") {
			t.Errorf("%s: got addresses %v, want the router's", c.name, s.Addrs)
		}
		if got, want := w.forwards(c.name), w.hosts[c.name]+":4001"; len(got) != 1 || got[0] != want {
			t.Errorf("%s: the router forwards to %v, want %s", c.name, got, want)
		}
	}
	w.await(w.nodes["r1"], "the forwarded relays", func(s control.Status) bool { return s.RelaysKnown >= 7 })
	w.await(silent, "its reachability", func(s control.Status) bool { return s.Reachability == "private" })
	for _, c := range append(askers, silent) {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
		delete(w.nodes, c.name)
		if got := w.forwards(c.name); len(got) != 0 {
			t.Errorf("%s has ended, and its router forwards to %v", c.name, got)
		}
		log, err := os.ReadFile(c.log)
		if err != nil {
			t.Fatal(err)
		}
		gateway := netip.MustParseAddr(w.hosts[c.name]).Prev().String()
		for _, a := range []string{w.hosts[c.name], gateway, w.routers[c.name], "239.255.255.250"} {
			if strings.Contains(string(log), a) {
				t.Errorf("the log of %s names an address:\n%s", c.name, log)
			}
		}
	}
	if got := said(); got != "" {
		t.Errorf("with --no-upnp a node says to its router, or to all:\n%s", got)
	}
}
