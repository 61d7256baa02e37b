package index

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// filled makes a closed store of some thousand postings and returns its path
// and what was put last.
func filled(t *testing.T) (string, Record) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "i.db")
	s := openTestStore(t, StoreConfig{Path: path})
	recs := postings(t, "kept", 1000, q1h())
	for part := range slices.Chunk(recs, 500) {
		putTo(t, s, part...)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path, recs[len(recs)-1]
}

// TestDamagedStore: whatever the file has become, the node starts, says so once
// and holds what comes; the damaged file is kept beside.
func TestDamagedStore(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for name, harm := range map[string]func(t *testing.T, path string){
		"no database": func(t *testing.T, path string) {
			write(t, path, bytes.Repeat([]byte("nonsense"), 1000))
		},
		"header": func(t *testing.T, path string) {
			b := read(t, path)
			copy(b[16:], "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")
			write(t, path, b)
		},
		"cut": func(t *testing.T, path string) { write(t, path, read(t, path)[:50_000]) },
		"pages": func(t *testing.T, path string) {
			b := read(t, path)
			for i := 4096; i < len(b); i++ {
				b[i] = byte(rng.Uint32())
			}
			write(t, path, b)
		},
		"another's tables": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec("CREATE TABLE r (x TEXT); PRAGMA user_version = 1"); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := filled(t)
			write(t, path+".damaged", []byte("an older one"))
			harm(t, path)
			was := read(t, path)
			var log bytes.Buffer
			s := openTestStore(t, StoreConfig{Path: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if got := s.Stats().Records; got != 0 {
				t.Errorf("got %d records, want a new store", got)
			}
			if c := putTo(t, s, postings(t, "new", 1, q1h())...); c[0] != 1 || len(getFrom(t, s, all("new")).Records) != 1 {
				t.Error("the new store holds nothing")
			}
			if aside := read(t, path+".damaged"); len(aside) != len(was) { // opening may have changed its header
				t.Errorf("got %d bytes set aside, want the damaged file's %d", len(aside), len(was))
			}
			if got := strings.Count(log.String(), "index store is damaged"); got != 1 {
				t.Errorf("got %d lines about it, want 1: %s", got, log.String())
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedWhileRunning: a store whose inner pages are found to be damaged
// while it runs answers one request with an error and the next from a new
// file; it does so once, not in a loop.
func TestDamagedWhileRunning(t *testing.T) {
	path, last := filled(t)
	b := read(t, path)
	// The pages of the table; those of the index by expiry, which is counted at
	// the start, stay.
	page := int(b[16])<<8 | int(b[17])
	for at := page; at+page <= len(b); at += page {
		if bytes.Contains(b[at:at+page], last.b[100:130]) || b[at] == 2 && bytes.Contains(b[at:at+page], last.b[60:70]) {
			copy(b[at:], bytes.Repeat([]byte{0xff}, 100))
		}
	}
	write(t, path, b)
	var log bytes.Buffer
	s := openTestStore(t, StoreConfig{Path: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if s.Stats().Records == 0 {
		t.Fatal("the damage is seen at the start: this test looks at the wrong pages")
	}
	g := all("kept")
	failed := 0
	for range 5 {
		if _, err := s.Answer(t.Context(), g.encode()); err != nil {
			if !damaged(err) {
				t.Fatalf("got %v, want an error about damage", err)
			}
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("got %d failed requests, want 1", failed)
	}
	if c := putTo(t, s, last); c[0] != 1 || len(getFrom(t, s, g).Records) != 1 || s.Stats().Records != 1 {
		t.Error("the new store does not hold what was put")
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Errorf("the damaged file is not kept: %v", err)
	}
	if got := strings.Count(log.String(), "index store is damaged"); got != 1 {
		t.Errorf("got %d lines about it, want 1", got)
	}
	// Damaged again at once: that is the disk, not the file.
	d := s.current()
	if err := s.failed(d, fmt.Errorf("x: %w", errForeign)); !errors.Is(err, errForeign) || s.current() != d {
		t.Error("a store is renewed twice in an hour")
	}
}

// TestFullDisk: a store without room refuses what comes, tells what it holds,
// and takes more when there is room again.
func TestFullDisk(t *testing.T) {
	s := openTestStore(t, StoreConfig{})
	recs := postings(t, "w", 400, q1h())
	putTo(t, s, recs[:50]...)
	pages := func(n int) {
		t.Helper()
		if _, err := s.current().w.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	pages(1) // SQLite takes as many as there are: SQLITE_FULL for the next
	ans, err := s.Answer(t.Context(), encodePut(recs[50:]))
	if err != nil {
		t.Fatalf("got %v, want an answer that nothing was stored", err)
	}
	copies, err := parseCopies(ans, 350)
	if err != nil || slices.Contains(copies, 1) || ans[2] != 255 {
		t.Errorf("got load %d, %v and some copies, want a full store", ans[2], err)
	}
	if got := len(getFrom(t, s, all("w")).Records); got != 50 || s.Stats().Records != 50 {
		t.Errorf("got %d records, %d counted, want the 50 from before", got, s.Stats().Records)
	}
	pages(1 << 30)
	if c := putTo(t, s, recs[50:]...); slices.Contains(c, 0) || s.Stats().Records != 400 {
		t.Errorf("got %d records with room again, want 400", s.Stats().Records)
	}
}

// TestSweepIsBounded: a removal of many reads only what it removes, goes in
// small steps, and leaves what lives.
func TestSweepIsBounded(t *testing.T) {
	c := newClock()
	s := openTestStore(t, StoreConfig{Now: c.now})
	live := postings(t, "live", 300, c.now().Add(48*time.Hour))
	putTo(t, s, live...)
	old := postings(t, "old", 300, c.now().Add(time.Minute))
	putTo(t, s, old...)
	c.add(time.Hour)
	rows, err := s.current().r.Query("EXPLAIN QUERY PLAN DELETE FROM r WHERE k = ? AND a = ? AND i = ?", 1, []byte{}, []byte{})
	if err != nil {
		t.Fatal(err)
	}
	var plan string
	for rows.Next() {
		var a, b, d int
		if err := rows.Scan(&a, &b, &d, &plan); err != nil {
			t.Fatal(err)
		}
	}
	if rows.Close(); !strings.Contains(plan, "k=? AND a=? AND i=?") {
		t.Errorf("a row is removed by %q", plan)
	}
	if err := s.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats().Records; got != 300 {
		t.Errorf("got %d records, want the 300 that live", got)
	}
	if a := getFrom(t, s, all("old")); a.Total != 0 {
		t.Errorf("got %d expired records, want none", a.Total)
	}
}
