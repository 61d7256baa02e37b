package index

import (
	"crypto/ed25519"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var million = flag.Int("postings", 0, "size of the store in BenchmarkFullStore, such as 1000000; 0 skips it")

func BenchmarkSealItem(b *testing.B) {
	it := item("Miles Davis - Kind of Blue 1959.flac")
	end := q1h()
	for b.Loop() {
		batch, _ := NewBatch(testNet)
		if _, err := batch.Postings(it, end); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(7*float64(b.N)/b.Elapsed().Seconds(), "postings/s")
}

// BenchmarkPut stores batches of 64 fresh postings, signatures verified.
func BenchmarkPut(b *testing.B) {
	s := openTestStore(b, StoreConfig{Limits: Limits{Records: 1 << 30}})
	n := 0
	for b.Loop() {
		b.StopTimer()
		batch, _ := NewBatch(testNet)
		var recs []Record
		for range 8 {
			n++
			r, err := batch.Postings(item(fmt.Sprintf("a%d b%d c%d d%d e%d f%d g%d common", n, n%1000, n, n, n, n, n)), q1h())
			if err != nil {
				b.Fatal(err)
			}
			recs = append(recs, r...)
		}
		req := encodePut(recs)
		b.StartTimer()
		if _, err := s.Answer(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(64*float64(b.N)/b.Elapsed().Seconds(), "postings/s")
}

// BenchmarkGet reads pages of 256 from a list of 2 000.
func BenchmarkGet(b *testing.B) {
	s := openTestStore(b, StoreConfig{})
	for part := range slices.Chunk(postings(b, "list", 2000, q1h()), 500) {
		putTo(b, s, part...)
	}
	g := all("list")
	for b.Loop() {
		g.Start = recordID{byte(rand.Uint32())}
		getFrom(b, s, g)
	}
}

// BenchmarkSearch is a search over five super nodes, from words to rows.
func BenchmarkSearch(b *testing.B) {
	r := newTestRouter(b, 5, StoreConfig{})
	a := newAsker(r)
	for i := range 20 {
		publish(b, a, item(fmt.Sprintf("blue number %d", i)))
	}
	for b.Loop() {
		if got := len(search(b, a, "blue number")); got != 20 {
			b.Fatalf("got %d rows, want 20", got)
		}
	}
}

// BenchmarkFullStore asks for lists of about 50 in a store of -postings rows,
// and says what filling it took and how long the file is.
func BenchmarkFullStore(b *testing.B) {
	if *million == 0 {
		b.Skip("give -postings 1000000")
	}
	c := newClock()
	path := filepath.Join(b.TempDir(), "i.db")
	s := openTestStore(b, StoreConfig{Path: path, Now: c.now, Limits: Limits{Records: 1 << 30, PerKey: 1 << 30}})
	words := max(1, *million/50)
	addrs := make([][32]byte, words)
	for i := range addrs {
		addrs[i] = key(fmt.Sprint(i))
	}
	// Rows go in below the signature check, which BenchmarkPut measures.
	owner := ed25519.NewKeyFromSeed(make([]byte, 32))
	model, _ := (&Batch{network: testNet, key: owner}).Postings(item("model"), c.now().Add(time.Hour))
	began := time.Now()
	for done := 0; done < *million; {
		s.writing.Lock()
		tx, err := s.current().w.Begin()
		if err != nil {
			b.Fatal(err)
		}
		p := putting{s: s, sql: s.current().sql.within(b.Context(), tx), lengths: map[slot]int{}, signers: map[int64]int{}}
		for range min(500, *million-done) {
			r := Record{slices.Clone(model[0].b)}
			copy(r.b[offAddr:], addrs[rand.IntN(words)][:])
			for i := len(r.b) - 96 - 172; i < len(r.b); i++ {
				r.b[i] = byte(rand.Uint32())
			}
			if _, err := p.one(b.Context(), r); err != nil {
				b.Fatal(err)
			}
			done++
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
		s.total.Add(p.added)
		s.remember(p.lengths)
		s.writing.Unlock()
	}
	filled := time.Since(began)
	b.Logf("%d postings in %v without verification: %.0f/s", *million, filled.Round(time.Millisecond), float64(*million)/filled.Seconds())
	for _, end := range []string{"", "-wal"} {
		if st, err := os.Stat(path + end); err == nil {
			b.Logf("%d MB on disk%s", st.Size()>>20, end)
		}
	}
	g := getRequest{Kind: Posting, Limit: maxPage}
	var took []time.Duration
	for b.Loop() {
		g.Addr = addrs[rand.IntN(words)]
		t := time.Now()
		getFrom(b, s, g)
		took = append(took, time.Since(t))
	}
	slices.Sort(took)
	b.Logf("query p50 %v p95 %v p99 %v", took[len(took)/2], took[len(took)*95/100], took[len(took)*99/100])
	c.add(2 * time.Hour)
	t := time.Now()
	left := s.total.Load()
	if err := s.sweep(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Logf("sweep of %d in %v", left-s.total.Load(), time.Since(t).Round(time.Millisecond))
}
