package share

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"wanderfs/cache/chunk"
)

// child shares root until it is killed, saying a line when it begins.
func child(root string) {
	s, err := Open(context.Background(), conf(root))
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	fmt.Println("open")
	for range s.Changed() {
		s.Items()
	}
}

// A process is killed while it hashes and commits; whatever the catalogue
// says afterwards is true, and the rest is hashed again.
func TestKilledWhileHashing(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	root := t.TempDir()
	c := conf(root)
	content := map[string][]byte{}
	write := func(i int) {
		name := fmt.Sprintf("d%d/f%d", i%7, i)
		data := bytesOf(rand.IntN(3*chunk.Size/2), uint64(rand.Int64()))
		put(t, filepath.Join(c.Dir, name), data)
		content[name] = data
	}
	for i := range 60 {
		write(i)
	}
	kept := 0
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SHARE_TEST_CHILD="+root)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 5)
		if _, err := out.Read(line); err != nil || !bytes.HasPrefix(line, []byte("open\n")) {
			t.Fatalf("child: %q, %v", line, err)
		}
		for range 3 {
			write(rand.IntN(60))
		}
		time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond) // the moment of the kill is random
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if round%8 != 0 && round != rounds-1 {
			continue
		}
		s, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range s.Items() {
			if it.Entry.Kind == chunk.File {
				kept++
				reads(t, s, it, content[it.Name])
			}
		}
		if round == rounds-1 {
			for name, data := range content {
				reads(t, s, has(t, s, name, data), data)
			}
			until(t, s, "folders are encoded", func() bool { _, ok := item(s, "d1"); return ok })
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if kept == 0 {
		t.Error("no hashing survived a kill")
	}
}

func TestDamagedCatalogue(t *testing.T) {
	c := conf(t.TempDir())
	put(t, filepath.Join(c.Dir, "a"), []byte("a"))
	put(t, c.DB, bytesOf(20000, 3))
	s := open(t, c)
	has(t, s, "a", []byte("a"))
	if len(s.Stats().Errors) != 1 {
		t.Errorf("got %q, want a word about the damage", s.Stats().Errors)
	}
	fi, err := os.Stat(c.DB)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v", fi.Mode(), err)
	}
}

func TestNewerCatalogueIsRefused(t *testing.T) {
	c := conf(t.TempDir())
	s := open(t, c)
	if _, err := s.cat.write.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), c); err == nil {
		_ = s.Close()
		t.Error("opened")
	}
}
