package main

import (
	stdbytes "bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/control"
)

const worldRelays = 9 // six positions, with some to spare

// directPackets counts the packets between two hosts.
func directPackets(t *testing.T, c *capture, a, b string, secrets []secret) (direct, all int, leaked []string) {
	t.Helper()
	x, y := netip.MustParseAddr(a), netip.MustParseAddr(b)
	seen := map[string]bool{}
	all, err := c.each(func(p packet) {
		if p.src == x && p.dst == y || p.src == y && p.dst == x {
			direct++
		}
		for _, what := range leaks(p.body, secrets) {
			if !seen[what] {
				seen[what] = true
				leaked = append(leaked, what)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return direct, all, leaked
}

// marker is the content of the secret file, over and over.
const marker = "every-word-of-this-is-a-secret-"

// watchTransfer shares a file, finds it by a word, reads it under both of its
// names, and returns every trace of it that others could see, in words.
func watchTransfer(t *testing.T, w *world, args ...string) []string {
	t.Helper()
	content := marked(marker, 5<<20)
	w.relays(worldRelays)
	publisher := w.drive("publisher", args...)
	reader := w.drive("reader", args...)
	cid := w.shareFile(publisher, "zanzibar quokka.txt", content)
	found := w.find(reader, "quokka", "zanzibar quokka.txt", 2*time.Minute)
	for _, name := range []string{found, filepath.Join(reader.mnt, "hash", cid)} {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !stdbytes.Equal(got, content) {
			t.Fatalf("read %d other bytes", len(got))
		}
	}

	ref, err := chunk.Parse(cid)
	if err != nil {
		t.Fatal(err)
	}
	secrets := []secret{
		{"content", []byte(marker)}, {"name", []byte("zanzibar")}, {"query", []byte("quokka")},
		{"CID digest", ref.Multihash()[2:]}, {"CID", []byte(cid)},
	}
	var traces []string
	for name, c := range w.nodes {
		dir := c.data
		if name == "publisher" {
			dir = filepath.Dir(c.log) // below it are the user's own files: only the log counts
		}
		for file, leaked := range leaksInFiles(t, dir, secrets) {
			if name == "publisher" && file != c.log {
				continue
			}
			for _, what := range leaked {
				traces = append(traces, fmt.Sprintf("the %s is in %s of %s", what, filepath.Base(file), name))
			}
		}
		b, err := os.ReadFile(c.log)
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range leaks(b, secrets) {
			traces = append(traces, fmt.Sprintf("the %s is in the log of %s", what, name))
		}
	}
	direct, all, leaked := directPackets(t, w.stopCapture(), w.hosts["publisher"], w.hosts["reader"], secrets)
	if all < len(content)*7/65536 {
		t.Errorf("the capture holds %d packets: it did not see the transfer", all)
	}
	if direct != 0 {
		traces = append(traces, fmt.Sprintf("%d packets went directly between reader and publisher", direct))
	}
	for _, what := range leaked {
		traces = append(traces, fmt.Sprintf("the %s is readable on a wire", what))
	}
	return traces
}

// TestNobodyLearnsWhoReadsAndWhoShares watches a whole transfer between two
// nodes that nobody can dial: on the wires, and on everybody's disks.
func TestNobodyLearnsWhoReadsAndWhoShares(t *testing.T) {
	w := newWorld(t, 0)
	w.wall("publisher")
	w.wall("reader")
	for _, trace := range watchTransfer(t, w, "--reachability", "private") {
		t.Error(trace)
	}
}

// killsToSurvive is how many carrying relays die during one read. Of these
// deadAtOnce stay away, the others come back: whose four entries of three months
// are all dead has to wait for one of them.
const (
	killsToSurvive = 5
	deadAtOnce     = 3
)

// readWhileKilling reads a file of 256 MiB on the reader's drive while relays
// that carried bytes just now are killed one after the other. It returns the
// first error of the read, or nil if every byte was right.
func readWhileKilling(t *testing.T, w *world, file string, want [32]byte, size int64, relays []*child) error {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	before := make(map[*child]uint64)
	note := func() (carrying []*child) {
		for _, c := range relays {
			s, err := c.client.Status(t.Context())
			if err != nil {
				continue // dead
			}
			if s.Relayed.Bytes > before[c]+1<<20 {
				carrying = append(carrying, c)
			}
			before[c] = s.Relayed.Bytes
		}
		return carrying
	}
	sum := sha256.New()
	kills := 0
	var dead []*child
	buf := make([]byte, 1<<20)
	var done, next int64 = 0, 8 << 20
	longest := time.Duration(0)
	note()
	for {
		start := time.Now()
		n, err := in.Read(buf)
		longest = max(longest, time.Since(start))
		sum.Write(buf[:n])
		done += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes and %d kills: %w", done, size, kills, err)
		}
		if done < next || kills == killsToSurvive {
			continue
		}
		next += size / (killsToSurvive + 2)
		if carrying := note(); len(carrying) > 0 {
			carrying[0].kill()
			dead = append(dead, carrying[0])
			relays = slices.DeleteFunc(slices.Clone(relays), func(c *child) bool { return c == carrying[0] })
			kills++
		}
		if len(dead) > deadAtOnce {
			relays = append(relays, w.start(dead[0].name, false))
			dead = dead[1:]
		}
	}
	t.Logf("%d relays killed, longest wait for a byte %v", kills, longest.Round(time.Millisecond))
	if done != size || [32]byte(sum.Sum(nil)) != want {
		return fmt.Errorf("read %d bytes, and not the right ones", done)
	}
	if kills < killsToSurvive {
		t.Errorf("killed %d relays, want %d: the read was over too soon", kills, killsToSurvive)
	}
	return nil
}

// whatReads tells in words what the drive of c reads, and what keeps it from
// that.
func whatReads(t *testing.T, c *child) string {
	t.Helper()
	s, err := c.client.Status(t.Context())
	if err != nil {
		return fmt.Sprintf("no status: %v", err)
	}
	return fmt.Sprintf("%d relays known, %d neighbours, %d sessions, transfers: %+v", s.RelaysKnown, s.Peers, len(s.Sessions), s.Transfers)
}

// longRead shares a film and reads it while relays die; the reader may lack a
// defence.
func longRead(t *testing.T, w *world, readerWithout string) error {
	t.Helper()
	const size = 256 << 20
	relays := w.relays(worldRelays + killsToSurvive)
	publisher := w.drive("publisher")
	reader := w.driveWithout(readerWithout, "reader")
	content := make([]byte, size)
	_, _ = rand.Read(content)
	cid := w.shareFile(publisher, "long film.bin", content)
	want := sha256.Sum256(content)
	err := readWhileKilling(t, w, filepath.Join(reader.mnt, "hash", cid), want, size, relays)
	if err != nil {
		t.Log(whatReads(t, reader))
	}
	return err
}

// TestReadsGoOnWhenRelaysDie kills carrying relays during a read.
func TestReadsGoOnWhenRelaysDie(t *testing.T) {
	w := newWorld(t, 64)
	if err := longRead(t, w, ""); err != nil {
		t.Error(err)
	}
}

// forge shares a file from a publisher that lies, and returns what a reader
// gets of it; the reader may lack a defence, too.
func forge(t *testing.T, w *world, readerWithout string) (cid string, content, got []byte, err error) {
	t.Helper()
	w.relays(worldRelays)
	content = make([]byte, 20<<20)
	_, _ = rand.Read(content)
	liar := w.driveWithout("honesty", "liar")
	reader := w.driveWithout(readerWithout, "reader")
	cid = w.shareFile(liar, "precious data.bin", content)
	got, err = os.ReadFile(filepath.Join(reader.mnt, "hash", cid))
	return cid, content, got, err
}

// TestLiesAreNeverReturned reads a file that one publisher forges and,
// later, another one has.
func TestLiesAreNeverReturned(t *testing.T) {
	w := newWorld(t, 64)
	cid, content, got, err := forge(t, w, "")
	if err == nil {
		t.Error("a read from a lying publisher alone succeeded")
	}
	if !stdbytes.HasPrefix(content, got) {
		t.Error("the reader got forged bytes")
	}
	publisher := w.drive("publisher")
	if got := w.shareFile(publisher, "precious data.bin", content); got != cid {
		t.Fatalf("two publishers of the same bytes have different CIDs")
	}
	start := time.Now()
	got, err = os.ReadFile(filepath.Join(w.nodes["reader"].mnt, "hash", cid))
	t.Logf("read from elsewhere %v after the other source came", time.Since(start).Round(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if !stdbytes.Equal(got, content) {
		t.Error("the reader got forged bytes")
	}
}

// restart kills a publisher and starts it again, and returns the session
// numbers of both lives and the content that it shares.
func restart(t *testing.T, w *world) (before, after map[string]bool, content []byte) {
	t.Helper()
	w.relays(worldRelays)
	content = make([]byte, 3<<20)
	_, _ = rand.Read(content)
	publisher := w.drive("publisher")
	w.shareFile(publisher, "returning comet.bin", content)
	before = numbers(w.await(publisher, "sessions", func(s control.Status) bool { return len(numbers(s)) > 0 }))
	publisher.kill()
	publisher = w.drive("publisher")
	after = numbers(w.await(publisher, "sessions", func(s control.Status) bool { return len(numbers(s)) > 0 }))
	return before, after, content
}

// common counts what two sets share.
func common(a, b map[string]bool) (n int) {
	for x := range a {
		if b[x] {
			n++
		}
	}
	return n
}

// TestRestartChangesAllSessionNumbers kills and restarts a publisher.
func TestRestartChangesAllSessionNumbers(t *testing.T) {
	w := newWorld(t, 64)
	before, after, content := restart(t, w)
	if n := common(before, after); n != 0 {
		t.Errorf("%d session numbers outlived their process", n)
	}
	reader := w.drive("reader")
	found := w.find(reader, "comet", "returning comet.bin", 2*time.Minute)
	got, err := os.ReadFile(found)
	if err != nil {
		t.Fatal(err)
	}
	if !stdbytes.Equal(got, content) {
		t.Error("read other bytes")
	}
}

func numbers(s control.Status) map[string]bool {
	all := map[string]bool{}
	for _, x := range s.Sessions {
		all[x.Number] = true
	}
	return all
}
