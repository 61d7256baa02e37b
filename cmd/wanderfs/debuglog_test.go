package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"wanderfs/cache/chunk"
	"wanderfs/node/control"
)

// anyAddress finds what looks like somebody's address, peer or content,
// whatever part of a text holds it.
var anyAddress = regexp.MustCompile(`12D3Koo\w+|\b(?:Qm\w{40,}|baf[yk]\w{50,})|\b\d{1,3}(?:\.\d{1,3}){3}\b|/ip[46]/|\[::|[0-9a-fA-F]{32,}`)

// TestDebugLogNamesNobody runs a network at the debug level through sharing,
// searching, reading and what can go wrong, and looks for everything that no
// log may hold at any level by itself: names, queries, CIDs, session numbers,
// peers, addresses.
func TestDebugLogNamesNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("a network of processes takes long")
	}
	if !haveFuse() {
		lacking(t, "fuse3 is not installed")
	}
	t.Parallel()
	for _, text := range []string{
		"peer 12D3KooWRk9HBo1rfcEm", "dial 10.1.2.3:4001", "cid=bafkreiemqpndzewx4bioklzfvhtiegsfny5fxuc3nkjk2vmcpjxiammsti",
		"number=00112233445566778899aabbccddeeff", "at [::1]:4001", "addr=/ip4/",
	} {
		if !anyAddress.MatchString(text) {
			t.Errorf("%q passes", text)
		}
	}
	dir := t.TempDir()
	flags := []string{"--lab", "--network", "hush", "--no-upnp", "--listen", "/ip4/127.0.0.1/tcp/0", "--log-level", "debug", "--session-life", "20s"}
	nodes := map[string]*child{}
	t.Cleanup(func() {
		for _, c := range nodes {
			if err := c.stop(); err != nil && !killed(c) {
				t.Error(err)
			}
			if c.mnt != "" {
				_ = exec.Command("fusermount3", "-uz", c.mnt).Run() // of the killed node; else there is none
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var secrets []secret
	start := func(name string, mount bool, ok func(control.Status) bool) *child {
		c, err := startChild(childConfig{Name: name, Dir: filepath.Join(dir, name), Mount: mount, Program: build(t), Args: flags})
		if err != nil {
			t.Fatal(err)
		}
		nodes[name] = c
		s, err := c.await(ctx, "its start", ok)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret{"peer ID of " + name, []byte(s.Node)})
		id, err := peer.Decode(s.Node)
		if err != nil {
			t.Fatal(err)
		}
		if key, err := id.ExtractPublicKey(); err == nil {
			raw, _ := key.Raw() // an Ed25519 key always has one
			secrets = append(secrets, secret{"node ID of " + name, []byte(hex.EncodeToString(raw))})
		}
		for _, a := range s.Addrs {
			port := a[strings.Index(a, "/tcp/")+len("/tcp/") : strings.Index(a, "/p2p/")]
			secrets = append(secrets, secret{"address of " + name, []byte("127.0.0.1:" + port)}, secret{"address of " + name, []byte("/tcp/" + port)})
		}
		return c
	}
	relays := make([]*child, 9)
	for i := range relays {
		relays[i] = start(fmt.Sprintf("r%d", i), false, func(s control.Status) bool { return len(s.Addrs) > 0 })
		if i == 0 {
			s, err := relays[0].client.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			flags = append(flags, "--bootstrap", s.Addrs[0])
		}
	}
	ready := func(s control.Status) bool { return s.Ready }
	publisher, reader := start("publisher", true, ready), start("reader", true, ready)

	// What works.
	const name, word = "hushed xylophone.txt", "xylophone"
	content := make([]byte, 3<<20)
	_, _ = rand.Read(content)
	if err := os.WriteFile(filepath.Join(publisher.mnt, "shared", name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	cid := awaitPublished(t, publisher, name)
	found := filepath.Join(reader.mnt, "search", "hushed "+word, name)
	for read := false; !read; {
		_, _ = os.ReadDir(filepath.Dir(found)) // it may say that nothing is there yet
		got, err := os.ReadFile(found)
		if read = err == nil && string(got) == string(content); !read {
			select {
			case <-ctx.Done():
				t.Fatal("the file was not found")
			case <-time.After(300 * time.Millisecond):
			}
		}
	}
	if err := os.Mkdir(filepath.Join(reader.mnt, "search", "standing "+word), 0o700); err != nil {
		t.Fatal(err)
	}

	// What goes wrong: a name that is no CID, a CID that nobody has, a second
	// node on the data, relays and the publisher gone in the middle.
	for _, bad := range []string{"bafynonsense" + word, cid[:len(cid)-2]} {
		if _, err := os.ReadFile(filepath.Join(reader.mnt, "hash", bad)); err == nil {
			t.Error("read a name that is no CID")
		}
	}
	absent, err := chunk.ImportFile(ctx, strings.NewReader("nobody has this"), 15, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(reader.mnt, "hash", absent.Ref.Name())); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("reading what nobody has: %v", err)
	}
	for _, c := range nodes {
		s, err := c.client.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range s.Sessions {
			secrets = append(secrets, secret{"session number", []byte(x.Number)})
		}
	}
	large := make([]byte, 24<<20)
	_, _ = rand.Read(large)
	if err := os.WriteFile(filepath.Join(publisher.mnt, "shared", "hushed "+word+" again.bin"), large, 0o600); err != nil {
		t.Fatal(err)
	}
	cut := awaitPublished(t, publisher, "hushed "+word+" again.bin")
	in, err := os.Open(filepath.Join(reader.mnt, "hash", cut))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	if _, err := in.Read(buf); err != nil {
		t.Error(err)
	}
	relays[8].kill()
	relays[7].kill()
	publisher.kill()
	for {
		if _, err = in.Read(buf); err != nil {
			break
		}
	}
	t.Logf("a read without a source ends with %v", err)
	_ = in.Close()
	for _, what := range [][]string{{"get", cid + "x"}, {"get", absent.Ref.Name(), "-o", filepath.Join(dir, "out")}, {"search", "type:" + word}} {
		if text, status := said(t, append(what, "--data", reader.data)...); status == 0 {
			t.Errorf("%s succeeded: %s", what[0], text)
		}
	}
	_, _ = os.ReadDir(filepath.Join(reader.mnt, "search", "no such "+word)) // sources are gone by now

	ref, err := chunk.Parse(cid)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"name or query": word, "part of a name": "hushed", "CID": cid, "other CID": cut, "absent CID": absent.Ref.Name(),
		"digest": hex.EncodeToString(ref.Multihash()[2:]), "part of a CID": cid[10:40],
	} {
		secrets = append(secrets, secret{what, []byte(text)})
	}
	for name, c := range nodes {
		b, err := os.ReadFile(c.log)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(b), "\n")
		for i, line := range lines { // the program says where the drive is, on its standard output
			if strings.HasPrefix(line, "mounted at ") || strings.HasPrefix(line, "relaying;") {
				lines[i] = ""
			}
		}
		text := strings.Join(lines, "\n")
		if !strings.Contains(text, "level=") {
			t.Errorf("%s logs nothing", name)
		}
		for _, what := range leaks([]byte(text), secrets) {
			t.Errorf("the log of %s holds the %s", name, what)
		}
		for _, line := range lines {
			if hit := anyAddress.FindString(line); hit != "" {
				t.Errorf("the log of %s holds %q: %s", name, hit, line)
			}
		}
	}
	leakedNames(t, dir, secrets)
}

// leakedNames looks for secrets in the names of files that nodes keep for
// themselves.
func leakedNames(t *testing.T, dir string, secrets []secret) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "drive" || d.Name() == "shared") {
			return fs.SkipDir // the user's own
		}
		for _, what := range leaks([]byte(strings.TrimPrefix(name, dir)), secrets) {
			t.Errorf("the %s is in the name of a file", what)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
