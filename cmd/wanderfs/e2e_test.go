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

// TestNobodyLearnsWhoReadsAndWhoShares watches a whole transfer between two
// nodes that nobody can dial.
func TestNobodyLearnsWhoReadsAndWhoShares(t *testing.T) {
	const marker = "every-word-of-this-is-a-secret-"
	content := marked(marker, 5<<20)
	w := newWorld(t, 0)
	w.wall("publisher")
	w.wall("reader")
	w.relays(worldRelays)
	publisher := w.drive("publisher", "--reachability", "private")
	reader := w.drive("reader", "--reachability", "private")

	cid := w.shareFile(publisher, "zanzibar quokka.txt", content)
	found := w.find(reader, "quokka", "zanzibar quokka.txt", 30*time.Second)
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
	digest := ref.Multihash()[2:]
	open := []secret{{"content", []byte(marker)}, {"name", []byte("zanzibar")}, {"query", []byte("quokka")}}
	onWire := append(open, secret{"CID digest", digest}, secret{"CID", []byte(cid)})
	for name := range w.nodes {
		if name == "publisher" || name == "reader" {
			continue
		}
		for _, leak := range leaksInFiles(t, filepath.Join(w.dir, name), onWire) {
			t.Errorf("%s holds the %s", name, leak)
		}
	}
	for _, leak := range leaksInFiles(t, filepath.Join(w.dir, "reader", "data"), onWire) {
		t.Errorf("the reader's own disk holds the %s", leak)
	}
	for _, who := range []*child{publisher, reader} {
		b, err := os.ReadFile(who.log)
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range leaks(b, onWire) {
			t.Errorf("the log of the %s holds the %s", who.name, what)
		}
	}
	direct, all, leaked := directPackets(t, w.stopCapture(), w.hosts["publisher"], w.hosts["reader"], onWire)
	if all < len(content)*7/65536 {
		t.Errorf("the capture holds %d packets: it did not see the transfer", all)
	}
	if direct != 0 {
		t.Errorf("%d packets went directly between reader and publisher, want none", direct)
	}
	for _, what := range leaked {
		t.Errorf("the %s was readable on a wire", what)
	}
}

// killsToSurvive is how many carrying relays die during one read.
const killsToSurvive = 5

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
			relays = slices.DeleteFunc(slices.Clone(relays), func(c *child) bool { return c == carrying[0] })
			kills++
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

// TestReadsGoOnWhenRelaysDie kills carrying relays during a read.
func TestReadsGoOnWhenRelaysDie(t *testing.T) {
	const size = 256 << 20
	w := newWorld(t, 64)
	relays := w.relays(worldRelays + killsToSurvive)
	publisher := w.drive("publisher")
	reader := w.drive("reader")
	content := make([]byte, size)
	_, _ = rand.Read(content)
	cid := w.shareFile(publisher, "long film.bin", content)
	want := sha256.Sum256(content)
	content = nil
	if err := readWhileKilling(t, w, filepath.Join(reader.mnt, "hash", cid), want, size, relays); err != nil {
		t.Error(err)
	}
	direct, all, _ := directPackets(t, w.stopCapture(), w.hosts["publisher"], w.hosts["reader"], nil)
	t.Logf("%d packets captured, %d of them directly between reader and publisher", all, direct)
}

// lying makes a publisher that sends other bytes than its hashes promise. Its
// own check before sending is off as well.
var lying = change{}

// TestLiesAreNeverReturned reads a file that one publisher has and another
// one forges.
func TestLiesAreNeverReturned(t *testing.T) {
	if lying == (change{}) {
		t.Skip("not yet")
	}
	w := newWorld(t, 64)
	w.relays(worldRelays)
	content := make([]byte, 20<<20)
	_, _ = rand.Read(content)
	honest := w.program
	w.program = build(t, lying)
	liar := w.drive("liar")
	w.program = honest
	cid := w.shareFile(liar, "precious data.bin", content)
	reader := w.drive("reader")
	publisher := w.drive("publisher")
	if got := w.shareFile(publisher, "precious data.bin", content); got != cid {
		t.Fatalf("two publishers of the same bytes have different CIDs")
	}
	got, err := os.ReadFile(filepath.Join(reader.mnt, "hash", cid))
	if err != nil {
		t.Fatal(err)
	}
	if !stdbytes.Equal(got, content) {
		t.Error("the reader got forged bytes")
	}
}

// TestRestartChangesAllSessionNumbers kills and restarts a publisher.
func TestRestartChangesAllSessionNumbers(t *testing.T) {
	w := newWorld(t, 64)
	w.relays(worldRelays)
	content := make([]byte, 3<<20)
	_, _ = rand.Read(content)
	publisher := w.drive("publisher")
	w.shareFile(publisher, "returning comet.bin", content)
	before := numbers(w.await(publisher, "sessions", func(s control.Status) bool { return len(numbers(s)) > 0 }))
	publisher.kill()

	publisher = w.drive("publisher")
	after := numbers(w.await(publisher, "sessions", func(s control.Status) bool { return len(numbers(s)) > 0 }))
	for n := range after {
		if before[n] {
			t.Error("a session number outlived its process")
		}
	}
	reader := w.drive("reader")
	found := w.find(reader, "comet", "returning comet.bin", time.Minute)
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
