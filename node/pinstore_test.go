package node

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wanderfs/node/view/viewtest"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

func openTestPins(t *testing.T, dir string) *pinStore {
	t.Helper()
	p, err := openPins(dir, viewtest.Network, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func pinsView(t *testing.T) *clockedView {
	var addrs []string
	for i := range 30 {
		addrs = append(addrs, fmt.Sprintf("10.%d.0.1:1", i))
	}
	return newClockedView(t, addrs, 30)
}

// firstsOf gives the entries that many paths take.
func firstsOf(t *testing.T, c *chooser) map[wire.NodeID]bool {
	t.Helper()
	seen := make(map[wire.NodeID]bool)
	for range 30 {
		hops, err := c.path(3, false)
		if err != nil {
			t.Fatal(err)
		}
		c.built(hops, nil, false) // it was reached
		seen[hops[0].Node] = true
	}
	return seen
}

func TestEntriesArePinned(t *testing.T) {
	dir := t.TempDir()
	v := pinsView(t).View
	all := make(map[wire.NodeID]bool)
	for range 10 { // restarts, none of them in order
		p := openTestPins(t, dir)
		for id := range firstsOf(t, testChooser(t, v, p)) {
			all[id] = true
		}
		p.Close()
	}
	if len(all) != 2 {
		t.Errorf("%d entries over 10 restarts, want 2", len(all))
	}
}

// Nothing on disk names a relay, an address or the policy's words.
func TestPinsAreSealed(t *testing.T) {
	dir := t.TempDir()
	v := pinsView(t).View
	p := openTestPins(t, dir)
	c := testChooser(t, v, p)
	ids := firstsOf(t, c)
	c.save()
	p.Close()
	files := 0
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for id := range ids {
			if bytes.Contains(b, id[:]) || bytes.Contains(b, []byte(hex.EncodeToString(id[:]))) {
				t.Errorf("%s names an entry", name)
			}
		}
		if bytes.Contains(b, []byte("10.")) && bytes.Contains(b, []byte(".0.1:1")) || bytes.Contains(b, []byte("entries")) {
			t.Errorf("%s is readable", name)
		}
		if fi, _ := e.Info(); fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, fi.Mode())
		}
		return nil
	})
	if err != nil || files < 2 {
		t.Errorf("looked at %d files: %v", files, err)
	}
}

func TestOldEntriesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, oldEntries)
	if err := os.WriteFile(old, []byte(`[{"node":"00","since":1}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	firstsOf(t, testChooser(t, pinsView(t).View, openTestPins(t, dir)))
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the plain list of entries is still there: %v", err)
	}
}

// Whatever is damaged, the node starts, pins anew, and says so once without
// naming anything.
func TestDamagedPins(t *testing.T) {
	damage := map[string]func(dir string) error{
		"sealed cut": func(dir string) error {
			return os.Truncate(filepath.Join(dir, pinsDir, "sealed", "pins-test-lab"), 40)
		},
		"sealed changed": func(dir string) error {
			name := filepath.Join(dir, pinsDir, "sealed", "pins-test-lab")
			b, err := os.ReadFile(name)
			if err == nil {
				b[len(b)/2] ^= 1
				err = os.WriteFile(name, b, 0o600)
			}
			return err
		},
		"key cut": func(dir string) error { return os.Truncate(filepath.Join(dir, pinsDir, "key"), 3) },
		"no folder": func(dir string) error {
			if err := os.RemoveAll(filepath.Join(dir, pinsDir)); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, pinsDir), []byte("x"), 0o600)
		},
	}
	for name, spoil := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			v := pinsView(t).View
			p := openTestPins(t, dir)
			firstsOf(t, testChooser(t, v, p))
			p.Close()
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, nil))
			p, err := openPins(dir, viewtest.Network, log)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			c, err := newChooser(v, p, relay.ChoiceConfig{Settle: -1}, log)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(firstsOf(t, c)); got != 2 {
				t.Errorf("got %d entries, want 2", got)
			}
			if text := out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "pinning anew") || strings.Contains(text, dir) {
				t.Errorf("got log %q", text)
			}
		})
	}
}

// TestPinsHelper is the process that TestPinsSurviveKill kills: it draws, tells
// whom it was about to use, and draws again as they die.
func TestPinsHelper(t *testing.T) {
	dir := os.Getenv("WANDERFS_TEST_PINS")
	if dir == "" {
		t.Skip("run by TestPinsSurviveKill")
	}
	v := pinsView(t)
	c := testChooser(t, v.View, openTestPins(t, dir))
	for {
		hops, err := c.path(3, false)
		if err != nil {
			fmt.Println("waits")
			select {} // until it is killed
		}
		c.built(hops, nil, true)
		fmt.Println("used", hex.EncodeToString(hops[0].Node[:]))
		v.kill(hops[0].Node)
		c.save()
	}
}

// A process is killed at any moment while it draws and saves. Whoever was used
// is remembered: over all lives there are no more than four entries.
func TestPinsSurviveKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	dir := t.TempDir()
	used := make(map[string]bool)
	for life := range 12 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPinsHelper$")
		cmd.Env = append(os.Environ(), "WANDERFS_TEST_PINS="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if id, ok := strings.CutPrefix(lines.Text(), "used "); ok {
				used[id] = true
			}
			if n == life%5 || lines.Text() == "waits" {
				break
			}
		}
		cmd.Process.Kill()
		for lines.Scan() { // what it said before it died
			if id, ok := strings.CutPrefix(lines.Text(), "used "); ok {
				used[id] = true
			}
		}
		cmd.Wait()
	}
	if len(used) < 2 || len(used) > 4 {
		t.Errorf("%d entries were used, want 2 to 4", len(used))
	}
	p := openTestPins(t, dir)
	if b, err := p.load(); err != nil || b == nil {
		t.Errorf("got %d bytes and %v after the kills", len(b), err)
	}
}
