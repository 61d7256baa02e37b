package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"wanderfs/cache/chunk"
)

func labNode(t *testing.T, bootstrap []string, change func(*Config)) *Node {
	t.Helper()
	c := Config{
		Data: t.TempDir(), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Bootstrap: bootstrap,
		Network: "test", Lab: true, CacheSize: 256 << 20,
	}
	if change != nil {
		change(&c)
	}
	n, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

// labNet starts relays and returns the addresses of the first one.
func labNet(t *testing.T, relays int) []string {
	t.Helper()
	first := labNode(t, nil, nil)
	var wg sync.WaitGroup
	for range relays - 1 {
		wg.Go(func() { labNode(t, first.Status().Addrs, nil) })
	}
	wg.Wait()
	return first.Status().Addrs
}

// patience is how long the tests wait for what comes within seconds on an idle
// machine, before they call it missing.
const patience = 3 * time.Minute

// eventually asks for cond a few times a second; for what is seen through
// Status or a search only.
func eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	end := time.After(within)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-end:
			t.Fatalf("waited %v for %s", within, what)
		case <-tick.C:
		}
	}
}

func readAll(ctx context.Context, n *Node, r chunk.Ref) ([]byte, error) {
	f, err := n.Open(ctx, r, r)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, f.Size())
	m, err := f.ReadAt(ctx, b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:m], err
}

// The main job: one node shares a file, another finds and reads it, and
// neither can be dialled.
func TestShareFindRead(t *testing.T) {
	t.Parallel()
	boot := labNet(t, 8)
	private := func(c *Config) { c.Reachability = Private }
	pub, reader := labNode(t, boot, private), labNode(t, boot, private)
	begin := time.Now()
	eventually(t, patience, "both to be ready", func() bool { return pub.Status().Ready && reader.Status().Ready })
	t.Logf("ready after %v", time.Since(begin))

	content := make([]byte, 5<<20+123)
	rand.Read(content)
	begin = time.Now()
	if err := os.WriteFile(filepath.Join(pub.Share().Dir(), "Blue Whale.bin"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	var row chunk.Result
	eventually(t, patience, "the file to be found", func() bool {
		r, err := reader.Search(t.Context(), "whale")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if rows := r.List(); len(rows) > 0 {
			row = rows[0]
			return true
		}
		return false
	})
	t.Logf("found after %v", time.Since(begin))
	if row.Name != "Blue Whale.bin" || row.Size != int64(len(content)) || row.Kind != chunk.File {
		t.Errorf("got %q, %d bytes, kind %d", row.Name, row.Size, row.Kind)
	}
	begin = time.Now()
	got, err := readAll(t.Context(), reader, row.Ref)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("got %d bytes and %v, want %d", len(got), err, len(content))
	}
	t.Logf("read after %v", time.Since(begin))
	eventually(t, patience, "the file to be marked as published", func() bool {
		return pub.Share().State("Blue Whale.bin").Phase == "published"
	})
	for _, p := range reader.Status().Paths {
		if p.Purpose == purposeRead && p.Relays != 4 {
			t.Errorf("a reading path of %d relays, want 4", p.Relays)
		}
	}
	for _, p := range pub.Status().Paths {
		if p.Purpose == purposePublish && p.Relays != 3 {
			t.Errorf("a publishing path of %d relays, want 3", p.Relays)
		}
	}
	if pid := pub.mesh.t.ID(); len(reader.mesh.t.Network().ConnsToPeer(pid)) > 0 {
		t.Error("reader and publisher are connected")
	}
}

func TestSecondNodeIsRefused(t *testing.T) {
	n := labNode(t, nil, nil)
	_, err := New(t.Context(), Config{Data: n.cfg.Data, Lab: true})
	if !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	s := n.Status()
	if s.Ready || s.WaitingFor == "" {
		t.Errorf("alone, ready %v, waiting for %q", s.Ready, s.WaitingFor)
	}
}

func TestNewerDataIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, formatFile), []byte("2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Config{Data: dir, Lab: true}); !errors.Is(err, ErrNewer) {
		t.Errorf("got %v, want ErrNewer", err)
	}
}
