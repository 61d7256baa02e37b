package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"wanderfs/node/control"
)

var rotateBytes = flag.Int64("rotate.bytes", 256<<20, "bytes of the file that is read while sessions rotate")

const (
	rotateLife = "20s"
	rotateTime = 45 * time.Second // the read is slowed to take at least so long: two mean lives
	rotateWait = 2 * time.Second  // the longest wait for a byte
)

// TestRotationNeverStopsATransfer reads a large file while both ends take new
// sessions every few seconds: no error, and no wait beyond rotateWait.
// `go test -run TestRotationNever ./cmd/wanderfs -rotate.bytes=1073741824`
// reads a whole GiB.
func TestRotationNeverStopsATransfer(t *testing.T) {
	w := newWorld(t, 64)
	w.relays(worldRelays)
	limit := fmt.Sprint(*rotateBytes / int64(rotateTime/time.Second))
	publisher := w.drive("publisher", "--reachability", "private", "--session-life", rotateLife, "--up-limit", limit)
	reader := w.drive("reader", "--reachability", "private", "--session-life", rotateLife)
	file := filepath.Join(publisher.mnt, "shared", "turning wheel.bin")
	sum := sha256.New()
	if err := writeFile(t.Context(), file, io.TeeReader(io.LimitReader(rand.Reader, *rotateBytes), sum)); err != nil {
		t.Fatal(err)
	}
	cid := awaitPublished(t, publisher, filepath.Base(file))
	want := [32]byte(sum.Sum(nil))

	in, err := os.Open(filepath.Join(reader.mnt, "hash", cid))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	seen := map[string]map[string]bool{"reader": {}, "publisher": {}}
	look := func() {
		for _, c := range []*child{reader, publisher} {
			s, err := c.client.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			present := map[string]int{}
			for _, x := range s.Sessions {
				seen[x.Role][x.Number] = true
				if !x.Draining {
					present[x.Role]++
				}
			}
			if present["reader"] > 1 {
				t.Fatalf("one reading task has %d sessions", present["reader"])
			}
		}
	}
	sum.Reset()
	var done int64
	var first, longest time.Duration
	var at int64
	start := time.Now()
	buf := make([]byte, 256<<10)
	for next := int64(0); ; {
		begin := time.Now()
		n, err := in.Read(buf)
		waited := time.Since(begin)
		sum.Write(buf[:n])
		switch {
		case done == 0:
			first = waited
		case waited > longest:
			longest, at = waited, done
		}
		done += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", done, *rotateBytes, err)
		}
		if done >= next {
			look()
			next = done + *rotateBytes/64
		}
	}
	took := time.Since(start)
	t.Logf("%d MiB in %v, first bytes after %v, then the longest wait %v, at %d MiB; %d sessions of the reader, %d of the publisher",
		done>>20, took.Round(time.Millisecond), first.Round(time.Millisecond), longest.Round(time.Millisecond), at>>20,
		len(seen["reader"]), len(seen["publisher"]))
	if done != *rotateBytes || [32]byte(sum.Sum(nil)) != want {
		t.Errorf("read %d bytes, and not the right ones", done)
	}
	if longest > rotateWait {
		t.Errorf("waited %v for bytes", longest)
	}
	for role, numbers := range seen {
		if len(numbers) < 2 {
			t.Errorf("%d sessions as %s: nothing rotated during the read", len(numbers), role)
		}
	}
	// What is over leaves nothing: paths end with their sessions.
	w.await(publisher, "old sessions to end", func(s control.Status) bool {
		drains := false
		for _, x := range s.Sessions {
			drains = drains || x.Draining
		}
		return !drains
	})
}
