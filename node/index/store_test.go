package index

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

// clock is a Now that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func openTestStore(t testing.TB, cfg StoreConfig) *Store {
	t.Helper()
	cfg.Network = testNet
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "odd name #1?.db")
	}
	s, err := OpenStore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// postings makes n postings of a word by as many keys.
func postings(t testing.TB, word string, n int, expires time.Time) []Record {
	t.Helper()
	var recs []Record
	for i := range n {
		b, _ := NewBatch(testNet)
		it := Item{Name: word, Ref: chunk.Raw(fmt.Append(nil, word, i)), Kind: chunk.File, Size: 1}
		r, err := b.Postings(it, expires)
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, r...)
	}
	return recs
}

func putTo(t testing.TB, s *Store, recs ...Record) []byte {
	t.Helper()
	ans, err := s.Answer(t.Context(), encodePut(recs))
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseCopies(ans, len(recs))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func getFrom(t testing.TB, s *Store, g getRequest) getAnswer {
	t.Helper()
	ans, err := s.Answer(t.Context(), g.encode())
	if err != nil {
		t.Fatal(err)
	}
	a, err := parseGot(ans)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func all(word string) getRequest {
	return getRequest{Kind: Posting, Addr: keysOf(word).addr, Limit: maxPage}
}

func TestStoreRefuses(t *testing.T) {
	c := newClock()
	s := openTestStore(t, StoreConfig{Now: c.now})
	good := postings(t, "good", 1, q1h())[0]
	forged := Record{bytes.Clone(good.b)}
	forged.b[len(forged.b)-1] ^= 1
	other, _ := NewBatch("other")
	foreign, _ := other.Postings(item("foreign"), q1h())
	g, _ := NewGroup(testNet)
	seal := func(life time.Duration) Record {
		r, err := g.Seal(source(1), 1, c.now().Add(life))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tc := range []struct {
		name string
		r    Record
		want byte
	}{
		{"good", good, 1},
		{"again", good, 1},
		{"forged", forged, 0},
		{"of another network", foreign[0], 0},
		{"expired", postings(t, "old", 1, c.now().Add(-time.Second))[0], 0},
		{"three days", postings(t, "days", 1, c.now().Add(PostingLife))[0], 1},
		{"too far", postings(t, "far", 1, c.now().Add(PostingLife+3*time.Hour))[0], 0},
		{"group too far", seal(48 * time.Hour), 0},
		{"group", seal(2 * time.Hour), 1},
	} {
		if got := putTo(t, s, tc.r)[0]; got != tc.want {
			t.Errorf("%s: got %d copies, want %d", tc.name, got, tc.want)
		}
	}
	if got := s.Stats().Records; got != 3 {
		t.Errorf("got %d records, want 3", got)
	}
	for _, req := range [][]byte{nil, {1}, {1, 9}, {1, opPut, 0, 0}, {2, opGet}, all("x").encode()[:50]} {
		if _, err := s.Answer(t.Context(), req); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("malformed request: got %v, want ErrMalformed", err)
		}
	}
}

func TestStoreLimits(t *testing.T) {
	count := func(c []byte) (n int) {
		for _, x := range c {
			n += int(x)
		}
		return n
	}
	s := openTestStore(t, StoreConfig{Limits: Limits{Records: 30, PerAddress: 20, Pointers: 2, PerKey: 4}})
	if got := count(putTo(t, s, postings(t, "hot", 25, q1h())...)); got != 20 {
		t.Errorf("one word: got %d postings, want 20", got)
	}
	b, _ := NewBatch(testNet)
	greedy, _ := b.Postings(item("a1 b2 c3 d4 e5 f6"), q1h())
	if got := count(putTo(t, s, greedy[:3]...)) + count(putTo(t, s, greedy[3:]...)); got != 4 {
		t.Errorf("one key: got %d postings, want 4", got)
	}
	var pointers []Record
	for range 3 {
		g, _ := NewGroup(testNet)
		p, _ := g.Pointer(item("x").Ref, q1h())
		pointers = append(pointers, p)
	}
	if got := count(putTo(t, s, pointers...)); got != 2 {
		t.Errorf("one content: got %d pointers, want 2", got)
	}
	if got := count(putTo(t, s, postings(t, "more", 10, q1h())...)); got != 4 {
		t.Errorf("in total: got %d more, want 4", got)
	}
	if st := s.Stats(); st.Records != 30 || st.Limit != 30 || s.load() != 255 {
		t.Errorf("got %+v, load %d, want a full store", st, s.load())
	}
}

func TestStoreExpiry(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "i.db")
	s := openTestStore(t, StoreConfig{Path: path, Now: c.now})
	putTo(t, s, postings(t, "brief", 5, c.now().Add(10*time.Minute))...)
	putTo(t, s, postings(t, "brief", 7, c.now().Add(100*time.Minute))[5:]...)
	c.add(11 * time.Minute)
	if a := getFrom(t, s, all("brief")); len(a.Records) != 2 {
		t.Errorf("got %d records, want the 2 that live", len(a.Records))
	}
	if err := s.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := getFrom(t, s, all("brief")); s.Stats().Records != 2 || a.Total != 2 {
		t.Errorf("after the sweep: got %d held, %d counted, want 2", s.Stats().Records, a.Total)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	s = openTestStore(t, StoreConfig{Path: path, Now: c.now})
	if a := getFrom(t, s, all("brief")); len(a.Records) != 2 || s.Stats().Records != 2 {
		t.Errorf("after reopening: got %d records, want 2", len(a.Records))
	}
}

func TestStoreReplaces(t *testing.T) {
	s := openTestStore(t, StoreConfig{})
	g, _ := NewGroup(testNet)
	seal := func(seq uint64, fill byte) Record {
		r, _ := g.Seal(source(fill), seq, q1h())
		return r
	}
	two := seal(2, 2)
	for _, c := range []struct {
		name string
		r    Record
		want byte
	}{{"first", two, 1}, {"same", two, 1}, {"older", seal(1, 1), 0}, {"equal but other", seal(2, 9), 0}, {"newer", seal(3, 3), 1}} {
		if got := putTo(t, s, c.r)[0]; got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
	a := getFrom(t, s, getRequest{Kind: GroupInfo, Addr: g.Address(), Limit: 1})
	if len(a.Records) != 1 || a.Records[0].Seq() != 3 {
		t.Errorf("got %d records, want the one with seq 3", len(a.Records))
	}
	b, _ := NewBatch(testNet)
	it := item("again")
	r1, _ := b.Postings(it, q1h())
	r2, _ := b.Postings(it, q1h().Add(30*time.Minute))
	putTo(t, s, r2...)
	putTo(t, s, r1...)
	if a := getFrom(t, s, all("again")); len(a.Records) != 1 || !a.Records[0].Expires().Equal(r2[0].Expires()) {
		t.Errorf("a refreshed posting does not live as long as its last one")
	}
}

// TestStorePages goes round the circle from several places, in small pages.
func TestStorePages(t *testing.T) {
	s := openTestStore(t, StoreConfig{})
	recs := postings(t, "list", 50, q1h())
	putTo(t, s, recs...)
	for _, start := range []recordID{{}, {0x40}, {0x80}, {0xff, 0xff}, recs[7].id()} {
		g := all("list")
		g.Start, g.Limit = start, 7
		var got []recordID
		for range 20 {
			a := getFrom(t, s, g)
			if a.Total != 50 {
				t.Errorf("got total %d, want 50", a.Total)
			}
			for _, r := range a.Records {
				got = append(got, r.id())
			}
			if !a.More {
				break
			}
			g.Resume, g.After = true, a.Next
		}
		if len(got) != 50 {
			t.Fatalf("got %d records, want 50", len(got))
		}
		for i := 1; i < len(got); i++ {
			if !before(start, got[i-1], got[i]) {
				t.Fatalf("record %d is out of order", i)
			}
		}
	}
}

func TestStoreFilters(t *testing.T) {
	s := openTestStore(t, StoreConfig{})
	for _, it := range []Item{
		{Name: "blue train.mp3", Ref: item("1").Ref, Kind: chunk.File, Size: 5 << 20},
		{Name: "blue moon.mkv", Ref: item("2").Ref, Kind: chunk.File, Size: 700 << 20},
		{Name: "blue things", Ref: item("3").Ref, Kind: chunk.Folder},
	} {
		b, _ := NewBatch(testNet)
		recs, err := b.Postings(it, q1h())
		if err != nil {
			t.Fatal(err)
		}
		putTo(t, s, recs...)
	}
	for _, c := range []struct {
		name string
		set  func(g *getRequest)
		want int
	}{
		{"all", func(*getRequest) {}, 3},
		{"video", func(g *getRequest) { g.Classes = 1 << classVideo }, 1},
		{"folder or audio", func(g *getRequest) { g.Classes = 1<<classFolder | 1<<classAudio }, 2},
		{"at least", func(g *getRequest) { g.MinLog = 25 }, 1},
		{"at most", func(g *getRequest) { g.MaxLog = 25 }, 2},
		{"tag", func(g *getRequest) { g.Tags = [][2]byte{keysOf("blue").tagOf("moon")} }, 1},
		{"two tags", func(g *getRequest) {
			g.Tags = [][2]byte{keysOf("blue").tagOf("moon"), keysOf("blue").tagOf("train")}
		}, 0},
	} {
		g := all("blue")
		c.set(&g)
		if got := len(getFrom(t, s, g).Records); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

// TestStoreFilesTellNothing looks through the database's files for every word
// of every published name and for the bytes of every CID.
func TestStoreFilesTellNothing(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, StoreConfig{Path: filepath.Join(dir, "i.db")})
	items := []Item{
		item("Kind of Blue 1959.flac"), item("東京物語"), item("Война и мир"), item("l'Opéra des gueux"),
		{Name: "inlined thing", Ref: inline(t), Kind: chunk.File, Size: 128},
	}
	g, _ := NewGroup(testNet)
	var secrets [][]byte
	for _, it := range items {
		b, _ := NewBatch(testNet)
		recs, err := b.Postings(it, q1h())
		if err != nil {
			t.Fatal(err)
		}
		p, _ := g.Pointer(it.Ref, q1h())
		putTo(t, s, append(recs, p)...)
		secrets = append(secrets, []byte(it.Name), it.Ref.Multihash()[2:], it.Ref.CID().Bytes(), []byte(it.Ref.Name()))
		for _, f := range strings.FieldsFunc(it.Name, func(r rune) bool { return r == ' ' || r == '.' || r == '\'' }) {
			secrets = append(secrets, []byte(f))
		}
		for _, w := range Tokens(it.Name) {
			secrets = append(secrets, []byte(w))
		}
	}
	src := bytes.Repeat([]byte("session secret! "), wire.SourceSize/16+1)[:wire.SourceSize]
	sealed, _ := g.Seal(src, 1, q1h())
	putTo(t, s, sealed)
	secrets = append(secrets, []byte("session secret!"))
	_ = getFrom(t, s, all("blue"))

	check := func() {
		t.Helper()
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, f := range files {
			if info, err := f.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("a file of the store is not its owner's alone: %v", err)
			}
			data, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			seen += len(data)
			for _, x := range secrets {
				// Below four bytes random data holds anything.
				if len(x) >= 4 && bytes.Contains(data, x) {
					t.Errorf("%d secret bytes stand in the store's files", len(x))
				}
			}
		}
		if seen < 8<<10 {
			t.Errorf("only %d bytes looked at", seen)
		}
	}
	check() // with the write-ahead log
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check()
}

func TestStoreVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "i.db")
	s := openTestStore(t, StoreConfig{Path: path})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 2"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(StoreConfig{Path: path}); !errors.Is(err, ErrStoreVersion) {
		t.Errorf("got %v, want ErrStoreVersion", err)
	}
	if _, err := OpenStore(StoreConfig{Path: filepath.Join(t.TempDir(), "no", "such")}); err == nil {
		t.Errorf("a store opens in a folder that does not exist")
	}
}

func TestStoreConcurrent(t *testing.T) {
	s := openTestStore(t, StoreConfig{})
	var wg sync.WaitGroup
	lists := make([][]Record, 4)
	for i := range lists {
		lists[i] = postings(t, "same", 30*(i+1), q1h())[30*i:]
	}
	for _, l := range lists {
		wg.Go(func() {
			for part := range slices.Chunk(l, 5) {
				if _, err := s.Answer(context.Background(), encodePut(part)); err != nil {
					t.Error(err)
				}
				if _, err := s.Answer(context.Background(), all("same").encode()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if a := getFrom(t, s, all("same")); len(a.Records) != 120 || a.Total != 120 || s.Stats().Records != 120 {
		t.Errorf("got %d records, %d counted, want 120", len(a.Records), a.Total)
	}
}
