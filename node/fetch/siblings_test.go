package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache/chunk"
)

// folder is a real folder of small files.
type folder struct {
	*content
	files []chunk.Entry
}

func newFolder(t testing.TB, files, size int) *folder {
	t.Helper()
	f := &folder{content: &content{blocks: make(map[chunk.Ref][]byte)}}
	for i := range files {
		b := bytes.Repeat(fmt.Appendf(nil, "%06d ", i), size/7)
		r := chunk.Raw(b)
		f.blocks[r] = b
		f.files = append(f.files, chunk.Entry{Name: fmt.Sprintf("file %06d", i), Ref: r, Kind: chunk.File, Size: int64(len(b)), Total: int64(len(b))})
	}
	e, err := chunk.EncodeFolder(f.files, f.content)
	if err != nil {
		t.Fatal(err)
	}
	f.root = e.Ref
	return f
}

func (c *folder) read(ctx context.Context, f *Fetcher, i int) error {
	x, err := f.Open(ctx, c.root, c.files[i].Ref)
	if err != nil {
		return err
	}
	defer x.Close()
	p := make([]byte, x.Size())
	if _, err := x.ReadAt(ctx, p, 0); err != nil && err != io.EOF {
		return err
	}
	if !bytes.Equal(p, c.blocks[c.files[i].Ref]) {
		return errors.New("wrong bytes")
	}
	return nil
}

// list does what ls does.
func (c *folder) list(ctx context.Context, f *Fetcher) ([]chunk.Entry, error) {
	d, err := f.OpenDir(ctx, c.root, c.root)
	if err != nil {
		return nil, err
	}
	var all []chunk.Entry
	err = d.Each(ctx, func(e chunk.Entry) error { all = append(all, e); return nil })
	return all, err
}

// Files that are read in order come ahead, so that they do not cost a round
// trip each.
func TestSiblingsComeAhead(t *testing.T) {
	c := newFolder(t, 400, 4200)
	took := func(next int) (d time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			p := newPublisher(t, c.blocks)
			p.latency, p.rate = 100*time.Millisecond, 10e6
			within(t, Config{Store: newMemStore(), Next: next}, []*publisher{p}, func(f *Fetcher) {
				if _, err := c.list(t.Context(), f); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				for i := range c.files {
					if err := c.read(t.Context(), f, i); err != nil {
						t.Fatal(err)
					}
				}
				d = time.Since(start)
			})
		})
		return d
	}
	without, with := took(-1), took(0)
	t.Logf("400 files at 200 ms round trip: %v one by one, %v ahead", without, with)
	if with*8 > without {
		t.Errorf("took %v, one by one %v: want an eighth at most", with, without)
	}
}

// Looking at a folder, or at a file here and there, fetches nothing else.
func TestSiblingsOnlyInOrder(t *testing.T) {
	c := newFolder(t, 200, 700)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		within(t, Config{Store: newMemStore()}, []*publisher{p}, func(f *Fetcher) {
			loads := func(what string, least, most int) {
				t.Helper()
				time.Sleep(5 * time.Second)
				if got := p.loads(); got < least || got > most {
					t.Errorf("%s: %d blocks were asked for, want %d to %d", what, got, least, most)
				}
			}
			all, err := c.list(t.Context(), f)
			if err != nil || len(all) != len(c.files) {
				t.Fatalf("listed %d, %v", len(all), err)
			}
			for _, e := range c.files[:3] { // ls -l, and a drive that opens to know the size
				x, err := f.Open(t.Context(), c.root, e.Ref)
				if err != nil {
					t.Fatal(err)
				}
				x.Close()
			}
			loads("after ls -l", 4, 4)
			for _, i := range []int{50, 20, 190, 120} {
				if err := c.read(t.Context(), f, i); err != nil {
					t.Fatal(err)
				}
			}
			loads("after files here and there", 8, 8)
			for i := 60; i < 63; i++ {
				if err := c.read(t.Context(), f, i); err != nil {
					t.Fatal(err)
				}
			}
			loads("after three in order", 8+4, 8+3+8)
			for i := 63; i < 80; i++ {
				if err := c.read(t.Context(), f, i); err != nil {
					t.Fatal(err)
				}
			}
			loads("after twenty in order", 8+20+16, 8+20+32)
		})
	})
}

// A sharded folder lists its entries in the order of its shards; drives show
// them by name. Both orders are known. A lookup is enough for a plain folder.
func TestSiblingsByNameAndByShard(t *testing.T) {
	c := newFolder(t, 6000, 70)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		within(t, Config{Store: newMemStore()}, []*publisher{p}, func(f *Fetcher) {
			all, err := c.list(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if sort.SliceIsSorted(all, func(i, k int) bool { return all[i].Name < all[k].Name }) {
				t.Fatal("the folder is not sharded")
			}
			for i := range 10 {
				if err := c.read(t.Context(), f, i); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Second)
			if c := p.count(c.files[15].Ref); c != 1 {
				t.Errorf("the next by name was asked for %d times, want once", c)
			}
			for i, e := range all[3000:3010] {
				c.files[i] = e
				if err := c.read(t.Context(), f, i); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Second)
			if c := p.count(all[3015].Ref); c != 1 {
				t.Errorf("the next by shard was asked for %d times, want once", c)
			}
		})
	})
	c = newFolder(t, 50, 70)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		within(t, Config{Store: newMemStore()}, []*publisher{p}, func(f *Fetcher) {
			d, err := f.OpenDir(t.Context(), c.root, c.root)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				if _, err := d.Lookup(t.Context(), c.files[i].Name); err != nil {
					t.Fatal(err)
				}
				if err := c.read(t.Context(), f, i); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Second)
			if c := p.count(c.files[8].Ref); c != 1 {
				t.Errorf("the next file was asked for %d times, want once", c)
			}
		})
	})
}

// What is remembered of folders is bounded.
func TestListingsAreBounded(t *testing.T) {
	var s siblings
	for i := range 2 * maxListings {
		var all []chunk.Entry
		for k := range 1000 {
			all = append(all, chunk.Entry{Name: fmt.Sprint(1000 + k), Ref: chunk.Raw([]byte{byte(i), byte(i >> 8), byte(k), byte(k >> 8)}), Kind: chunk.File})
		}
		s.listed(chunk.Raw([]byte("root")), chunk.Raw([]byte{byte(i), byte(i >> 8)}), all)
	}
	if len(s.orders) > maxListings || s.entries > maxEntries || s.entries != 1000*len(s.orders) {
		t.Errorf("%d orders with %d entries are kept", len(s.orders), s.entries)
	}
	s.listed(chunk.Raw([]byte("root")), chunk.Raw([]byte("large")), make([]chunk.Entry, maxListed+1))
	if got := s.orders[len(s.orders)-1].dir; got == chunk.Raw([]byte("large")) {
		t.Error("a folder that is too large is kept")
	}
}

// BenchmarkFolder copies 200 files over 20 ms of round trip, one by one and
// with those that follow fetched ahead; times-faster is the ratio.
func BenchmarkFolder(b *testing.B) {
	c := newFolder(b, 200, 4200)
	took := func(next int) time.Duration {
		p := newPublisher(b, c.blocks)
		p.latency = 10 * time.Millisecond
		f := New(Config{Finder: found(p), Store: newMemStore(), Next: next})
		if _, err := c.list(b.Context(), f); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		for i := range c.files {
			if err := c.read(b.Context(), f, i); err != nil {
				b.Fatal(err)
			}
		}
		d := time.Since(start)
		f.Close()
		p.wg.Wait()
		return d
	}
	var one, ahead time.Duration
	for range b.N {
		one += took(-1)
		ahead += took(0)
	}
	b.ReportMetric(float64(one)/float64(ahead), "times-faster")
	b.ReportMetric(ahead.Seconds()*1000/float64(b.N), "ms-ahead")
	b.ReportMetric(one.Seconds()*1000/float64(b.N), "ms-one-by-one")
}
