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
	"slices"
	"strconv"
	"strings"
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

// rotated is how a read went while sessions rotated.
type rotated struct {
	first, longest time.Duration // waits for a byte: the first, and all later ones less what the machine made of them
	sessions       map[string]int
	most           int // sessions of the one reading task that were not draining
	right          bool
	err            error
}

// short returns for how long so far the machine has had more to run than
// processors. Waits during such a time say nothing about the program.
func short(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0 // this kernel does not count it
	}
	_, total, _ := strings.Cut(string(b), "total=")
	total, _, _ = strings.Cut(total, "\n")
	us, err := strconv.ParseInt(total, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(us) * time.Microsecond
}

// readWhileRotating reads a file of size bytes while both ends take new
// sessions every few seconds. The publisher may lack a
// defence.
func readWhileRotating(t *testing.T, w *world, publisherWithout string, size int64) (r rotated) {
	t.Helper()
	w.relays(worldRelays)
	limit := fmt.Sprint(size / int64(rotateTime/time.Second) * 8 / 3) // of which a session has 3/8
	publisher := w.driveWithout(publisherWithout, "publisher", "--reachability", "private", "--session-life", rotateLife, "--up-limit", limit)
	reader := w.drive("reader", "--reachability", "private", "--session-life", rotateLife)
	file := filepath.Join(publisher.mnt, "shared", "turning wheel.bin")
	sum := sha256.New()
	if err := writeFile(t.Context(), file, io.TeeReader(io.LimitReader(rand.Reader, size), sum)); err != nil {
		t.Fatal(err)
	}
	cid := awaitPublished(t, publisher, filepath.Base(file))
	want := [32]byte(sum.Sum(nil))

	in, err := os.Open(filepath.Join(reader.mnt, "hash", cid))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	seen := map[string]bool{}
	r.sessions = map[string]int{}
	look := func() {
		for _, c := range []*child{reader, publisher} {
			s, err := c.client.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			reading := 0
			for _, x := range s.Sessions {
				if !seen[x.Number] {
					seen[x.Number] = true
					r.sessions[x.Role]++
				}
				if x.Role == "reader" && !x.Draining {
					reading++
				}
			}
			r.most = max(r.most, reading)
		}
	}
	sum.Reset()
	var done, next, at int64
	start := time.Now()
	for buf := make([]byte, 256<<10); ; {
		begin, busy := time.Now(), short(t)
		n, err := in.Read(buf)
		waited := time.Since(begin)
		sum.Write(buf[:n])
		switch {
		case done == 0:
			r.first = waited
		default:
			if waited -= short(t) - busy; waited > r.longest {
				r.longest, at = waited, done
			}
		}
		done += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.err = fmt.Errorf("after %d of %d bytes: %w", done, size, err)
			break
		}
		if done >= next {
			look()
			next = done + size/64
		}
	}
	took := time.Since(start)
	r.right = done == size && [32]byte(sum.Sum(nil)) == want
	t.Logf("%d MiB in %v, first bytes after %v, then the longest wait %v, at %d MiB; sessions: %v; error: %v",
		done>>20, took.Round(time.Millisecond), r.first.Round(time.Millisecond), r.longest.Round(time.Millisecond), at>>20,
		r.sessions, r.err)
	return r
}

// TestRotationNeverStopsATransfer reads a large file while both ends take new
// sessions every few seconds: no error, and no wait beyond rotateWait that is not the machine's.
// `go test -run TestRotationNever ./cmd/wanderfs -rotate.bytes=1073741824`
// reads a whole GiB.
func TestRotationNeverStopsATransfer(t *testing.T) {
	w := newWorld(t, 64)
	r := readWhileRotating(t, w, "", *rotateBytes)
	if r.err != nil {
		t.Fatal(r.err)
	}
	if !r.right {
		t.Error("not the right bytes")
	}
	if r.longest > rotateWait {
		t.Errorf("waited %v for bytes", r.longest)
	}
	if r.most != 1 {
		t.Errorf("one reading task has %d sessions", r.most)
	}
	for _, role := range []string{"reader", "publisher"} {
		if r.sessions[role] < 2 {
			t.Errorf("%d sessions as %s: nothing rotated during the read", r.sessions[role], role)
		}
	}
	// What is over leaves nothing: sessions end with their time.
	w.await(w.nodes["publisher"], "old sessions to end", func(s control.Status) bool {
		return !slices.ContainsFunc(s.Sessions, func(x control.Session) bool { return x.Draining })
	})
}
