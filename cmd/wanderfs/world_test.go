package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"wanderfs/node/control"
)

// needWorld skips where namespaces or FUSE cannot be had; in CI that is a
// failure.
func needWorld(t *testing.T) {
	t.Helper()
	lack := ""
	switch {
	case testing.Short():
		t.Skip("a network of namespaces takes long")
	case os.Geteuid() != 0:
		lack = "network namespaces need root"
	case !haveFuse():
		lack = "fuse3 is not installed"
	}
	for _, p := range []string{"ip", "nft", "tcpdump", "nsenter"} {
		if _, err := exec.LookPath(p); err != nil && lack == "" {
			lack = p + " is not installed"
		}
	}
	if lack != "" {
		lacking(t, lack)
	}
}

// world is a network of namespaces around a hub. Every node has its own
// namespace, process and /16.
type world struct {
	t       *testing.T
	tag     string
	dir     string
	flags   []string
	nodes   map[string]*child
	hosts   map[string]string       // node -> its address
	routers map[string]string       // node behind a router -> the router's address
	homes   map[string]netip.Addr   // node that roams -> its public address
	first   int                     // of all addresses
	without string                  // the defence that those which start lack, "" for none
	program func(testing.TB) string // of those which start
	dump    *exec.Cmd
	pcap    string
}

var worlds struct {
	sync.Mutex
	n int
}

// newWorld makes the hub and starts to capture there, before any node starts.
// Worlds wait more than they work, so tests with one run side by side.
// snap bounds the captured bytes of a packet; 0 is no bound.
func newWorld(t *testing.T, snap int) *world {
	t.Helper()
	needWorld(t)
	t.Parallel()
	worlds.Lock()
	worlds.n++
	tag := fmt.Sprintf("wf%d-%d", os.Getpid(), worlds.n)
	worlds.Unlock()
	w := &world{t: t, tag: tag, dir: t.TempDir(), nodes: map[string]*child{}, hosts: map[string]string{}, routers: map[string]string{}, homes: map[string]netip.Addr{}, first: 10, program: build}
	w.flags = []string{"--lab", "--network", "world", "--no-upnp", "--log-level", "info"}
	t.Cleanup(w.close)
	w.ip("netns", "add", w.ns("hub"))
	w.ip("-n", w.ns("hub"), "link", "add", "br0", "type", "bridge")
	w.ip("-n", w.ns("hub"), "link", "set", "br0", "up")
	w.pcap = filepath.Join(w.dir, "hub.pcap")
	w.dump = exec.Command("nsenter", "--net=/run/netns/"+w.ns("hub"), "tcpdump", "-i", "br0", "-n", "-U", "-B", "65536", "-s", fmt.Sprint(snap), "-w", w.pcap)
	stderr, err := w.dump.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.dump.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stderr.Read(make([]byte, 1)); err != nil { // "listening on br0"
		t.Fatal(err)
	}
	return w
}

func (w *world) ns(name string) string { return w.tag + "-" + name }

func (w *world) ip(args ...string) {
	w.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// host makes the namespace of a node, if it is not there yet.
func (w *world) host(name string) {
	w.t.Helper()
	if _, ok := w.hosts[name]; ok {
		return
	}
	w.hosts[name] = w.plug(w.ns(name), len(w.hosts)+1)
}

// plug makes a namespace with an address of the i-th /16 at the hub.
func (w *world) plug(ns string, i int) (addr string) {
	w.t.Helper()
	addr = fmt.Sprintf("%d.%d.0.1", w.first, i)
	w.ip("netns", "add", ns)
	w.plugIn(ns, i, "eth0")
	w.ip("-n", ns, "link", "set", "lo", "up")
	w.ip("-n", ns, "addr", "add", addr+"/8", "dev", "eth0")
	return addr
}

// plugIn connects a namespace to the hub: its i-th plug, by an interface
// without an address.
func (w *world) plugIn(ns string, i int, dev string) {
	w.t.Helper()
	veth := fmt.Sprintf("v%d", i)
	w.ip("link", "add", veth, "netns", w.ns("hub"), "type", "veth", "peer", "name", dev, "netns", ns)
	w.ip("-n", w.ns("hub"), "link", "set", veth, "master", "br0", "up")
	w.ip("-n", ns, "link", "set", dev, "up")
}

// wall keeps everybody from dialling name.
func (w *world) wall(name string) {
	w.t.Helper()
	w.host(name)
	rules := "add table inet wall; add chain inet wall in { type filter hook input priority 0; }; " +
		"add rule inet wall in iifname eth0 tcp flags & (syn|ack) == syn drop"
	if out, err := exec.Command("nsenter", "--net=/run/netns/"+w.ns(name), "nft", rules).CombinedOutput(); err != nil {
		w.t.Fatalf("nft: %v\n%s", err, out)
	}
}

// unwall is the reverse of wall.
func (w *world) unwall(name string) { w.in(w.ns(name), "nft", "delete table inet wall") }

// start runs a node in its own namespace.
func (w *world) start(name string, mount bool, args ...string) *child {
	w.t.Helper()
	w.host(name)
	at := w.hosts[name]
	if w.homes[name].IsValid() {
		at = "0.0.0.0"
	}
	flags := append([]string{"--listen", "/ip4/" + at + "/tcp/4001"}, w.flags...)
	cfg := childConfig{
		Name: name, Dir: filepath.Join(w.dir, name), Mount: mount, Args: append(flags, args...),
		Wrapper: []string{"nsenter", "--net=/run/netns/" + w.ns(name)}, Program: w.program(w.t),
	}
	if w.without != "" {
		cfg.Program = buildSwitched(w.t)
		cfg.Wrapper = append(cfg.Wrapper, "env", withoutEnv+"="+w.without)
	}
	c, err := startChild(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.nodes[name] = c
	return c
}

// await waits until ok holds for c's status.
func (w *world) await(c *child, what string, ok func(control.Status) bool) control.Status {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	s, err := c.await(ctx, what, ok)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// relays starts n relays that know each other; all later nodes start from
// the first.
func (w *world) relays(n int) []*child {
	w.t.Helper()
	var all []*child
	for i := range n {
		c := w.start(fmt.Sprintf("r%d", i+1), false)
		if i == 0 {
			s := w.await(c, "an address", func(s control.Status) bool { return len(s.Addrs) > 0 })
			w.flags = append(w.flags, "--bootstrap", s.Addrs[0])
		}
		all = append(all, c)
	}
	for _, c := range all {
		w.await(c, "the others", func(s control.Status) bool { return s.RelaysKnown >= n-1 })
	}
	return all
}

// drive starts a node with a drive and waits until it is ready.
func (w *world) drive(name string, args ...string) *child {
	w.t.Helper()
	c := w.start(name, true, args...)
	w.await(c, "a path", func(s control.Status) bool { return s.Ready })
	return c
}

// driveWithout is drive for a node that lacks a defence.
func (w *world) driveWithout(defence, name string, args ...string) *child {
	w.t.Helper()
	was := w.without
	w.without = defence
	defer func() { w.without = was }()
	return w.drive(name, args...)
}

// stopCapture ends the capture and returns its packets.
func (w *world) stopCapture() *capture {
	w.t.Helper()
	if err := w.dump.Process.Signal(os.Interrupt); err != nil {
		w.t.Fatal(err)
	}
	_ = w.dump.Wait() // tcpdump's status says nothing of use
	c, err := openCapture(w.pcap)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

func (w *world) close() {
	if w.t.Failed() {
		for name, c := range w.nodes {
			b, _ := os.ReadFile(c.log)
			w.t.Logf("log of %s:\n%s", name, b)
		}
	}
	var wg sync.WaitGroup
	for _, c := range w.nodes {
		wg.Go(func() {
			if err := c.stop(); err != nil && !killed(c) {
				b, _ := os.ReadFile(c.log)
				w.t.Errorf("%v\n%s", err, b)
			}
			if c.mnt != "" {
				_ = exec.Command("fusermount3", "-uz", c.mnt).Run() // of a killed node; else there is none
			}
		})
	}
	wg.Wait()
	_ = w.dump.Process.Kill() // it may have ended
	_ = w.dump.Wait()
	for name := range w.hosts {
		_ = exec.Command("ip", "netns", "del", w.ns(name)).Run()
	}
	for name := range w.routers {
		_ = exec.Command("ip", "netns", "del", w.ns(name+"-nat")).Run()
	}
	_ = exec.Command("ip", "netns", "del", w.ns("hub")).Run()
}

// kill ends the child at once, as a power cut would.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
	_ = c.rope.Close()
	c.client.Close()
}

// killed reports whether the test killed the child.
func killed(c *child) bool {
	s := c.cmd.ProcessState
	return s != nil && !s.Exited()
}

// shareFile copies content into a drive and waits until it is published; it
// returns the CID.
func (w *world) shareFile(c *child, name string, content []byte) string {
	w.t.Helper()
	file := filepath.Join(c.mnt, "shared", name)
	if err := os.WriteFile(file, content, 0o644); err != nil {
		w.t.Fatal(err)
	}
	return awaitPublished(w.t, c, name)
}

// find lists a search on a drive until it shows name.
func (w *world) find(c *child, query, name string, within time.Duration) string {
	w.t.Helper()
	dir := filepath.Join(c.mnt, "search", query)
	for end := time.Now().Add(within); ; {
		names, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			w.t.Logf("ls: %v", err)
		}
		for _, e := range names {
			if e.Name() == name {
				return filepath.Join(dir, name)
			}
		}
		if time.Now().After(end) {
			w.t.Fatalf("a search did not find the file within %v", within)
		}
		<-time.After(500 * time.Millisecond)
	}
}
