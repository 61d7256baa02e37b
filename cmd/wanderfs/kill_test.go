package main

import (
	stdbytes "bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wanderfs/node/control"
)

// TestKilledPublisherLosesNothing kills a node right after a file was closed,
// when another one is published already. Started again on the same folder it
// has both, publishes both under the CIDs that they had or would have had, and
// another node reads them.
func TestKilledPublisherLosesNothing(t *testing.T) {
	w := newWorld(t, 96)
	w.relays(worldRelays)
	publisher, reader := w.start("publisher", true), w.start("reader", true)
	w.await(publisher, "a path", func(s control.Status) bool { return s.Ready })
	files := map[string][]byte{"told heron.bin": nil, "closed heron.bin": nil}
	cids := make(map[string]string)
	for name := range files {
		content := make([]byte, 3<<20+17)
		_, _ = rand.Read(content)
		files[name] = content
		plain := filepath.Join(w.dir, name)
		if err := os.WriteFile(plain, content, 0o600); err != nil {
			t.Fatal(err)
		}
		text, status := said(t, "hash", plain)
		if status != 0 {
			t.Fatalf("hash ended with %d:\n%s", status, text)
		}
		cids[name] = strings.Fields(text)[0]
	}
	if got := w.shareFile(publisher, "told heron.bin", files["told heron.bin"]); got != cids["told heron.bin"] {
		t.Errorf("got CID %s, want %s", got, cids["told heron.bin"])
	}
	if err := os.WriteFile(filepath.Join(publisher.mnt, "shared", "closed heron.bin"), files["closed heron.bin"], 0o644); err != nil {
		t.Fatal(err)
	}
	publisher.kill()

	publisher = w.drive("publisher")
	for name, content := range files {
		got, err := os.ReadFile(filepath.Join(publisher.mnt, "shared", name))
		if err != nil || !stdbytes.Equal(got, content) {
			t.Errorf("%s after the kill: got %d bytes and %v, want %d", name, len(got), err, len(content))
		}
		if got := awaitPublished(t, publisher, name); got != cids[name] {
			t.Errorf("%s after the kill: got CID %s, want %s", name, got, cids[name])
		}
		file := filepath.Join(reader.mnt, "hash", cids[name])
		for end := time.Now().Add(2 * time.Minute); ; <-time.After(childPoll) {
			if got, err = os.ReadFile(file); err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: another node cannot read it: %v", name, err)
			}
		}
		if !stdbytes.Equal(got, content) {
			t.Errorf("%s: another node read %d bytes, and not the right ones", name, len(got))
		}
	}
}
