package cache

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache/chunk"
)

func TestLimit(t *testing.T) {
	const n = 10_000 // 12 KiB on disk
	cfg := Config{Dir: t.TempDir(), Limit: 40 * weight(n), MinFree: -1}
	c := open1(t, cfg)
	var refs []chunk.Ref
	for i := range uint64(400) {
		r, _ := put(t, c, i, n)
		refs = append(refs, r)
		if s := c.Stats(); s.Bytes > cfg.Limit {
			t.Fatalf("after %d puts: got %d bytes, limit %d", i+1, s.Bytes, cfg.Limit)
		}
	}
	for i := 1; i <= 8; i++ { // well within a quarter of the limit
		if !c.Has(refs[len(refs)-i]) {
			t.Errorf("the chunk put %d puts ago is gone", i)
		}
	}
	s := c.Stats()
	if s.Chunks < 30 || s.Evicted != uint64(400-s.Chunks) {
		t.Errorf("got %+v, want at least 30 chunks and the others evicted", s)
	}
	if got := int64(len(chunkFiles(t, cfg.Dir))); got != s.Chunks {
		t.Errorf("got %d files, want %d", got, s.Chunks)
	}
	_ = c.Close()

	cfg.Limit /= 4 // less at the next start
	c = open1(t, cfg)
	s = c.Stats()
	if s.Bytes > cfg.Limit || s.Chunks < 5 {
		t.Errorf("after reopening with less: got %+v", s)
	}
	if got := int64(len(chunkFiles(t, cfg.Dir))); got != s.Chunks {
		t.Errorf("got %d files, want %d", got, s.Chunks)
	}
}

func TestChunkLargerThanLimit(t *testing.T) {
	c := open1(t, Config{Dir: t.TempDir(), Limit: 8192, MinFree: -1})
	r, data := block(1, 10_000)
	if err := c.Put(r, data); !errors.Is(err, ErrFull) {
		t.Errorf("Put: got %v, want ErrFull", err)
	}
	put(t, c, 2, 8000)
	put(t, c, 3, 8000)
}

// A working set that is used again and again outlives a scan of ten times the
// limit.
func TestScanResistance(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const n = 4096
		c, err := Open(Config{Dir: dir, Limit: 500 * n, MinFree: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var set []chunk.Ref
		for i := range uint64(100) {
			r, _ := put(t, c, i, n)
			set = append(set, r)
		}
		scan := uint64(1_000_000)
		for range 5 {
			time.Sleep(2 * touchEvery) // the bubble's clock
			for _, r := range set {
				if _, err := c.Get(r); err != nil {
					t.Fatalf("Get: %v", err)
				}
			}
			for range 100 {
				put(t, c, scan, n)
				scan++
			}
		}
		for range 2000 {
			r, _ := put(t, c, scan, n)
			scan++
			p := make([]byte, 512)
			for off := int64(0); off < n; off += 2048 { // one reader, many reads: one use
				if _, err := c.ReadRange(r, p, off); err != nil {
					t.Fatalf("ReadRange: %v", err)
				}
			}
		}
		kept := 0
		for _, r := range set {
			if c.Has(r) {
				kept++
			}
		}
		if kept < 90 {
			t.Errorf("got %d of 100 chunks of the working set after the scan, want 90", kept)
		}
		t.Logf("%d of 100 kept", kept)
	})
}

func TestPins(t *testing.T) {
	const n = 4096
	cfg := Config{Dir: t.TempDir(), Limit: 100 * n, MinFree: -1}
	c := open1(t, cfg)
	var refs []chunk.Ref
	var datas [][]byte
	for i := range uint64(20) {
		r, data := block(i, n)
		if i%2 == 0 {
			c.Pin(r) // before it is there
		}
		if err := c.Put(r, data); err != nil {
			t.Fatal(err)
		}
		c.Pin(r)
		refs, datas = append(refs, r), append(datas, data)
	}
	flood := func(from uint64) {
		t.Helper()
		for i := range uint64(500) {
			put(t, c, from+i, n)
		}
	}
	check := func() {
		t.Helper()
		for i, r := range refs {
			if got, err := c.Get(r); err != nil || !bytes.Equal(got, datas[i]) || !c.Pinned(r) {
				t.Errorf("pinned chunk %d: %v", i, err)
			}
		}
		if got, want := c.Stats().Pinned, int64(len(refs)*n); got != want {
			t.Errorf("got %d bytes pinned, want %d", got, want)
		}
		if got := len(c.Pins()); got != len(refs) {
			t.Errorf("got %d pins, want %d", got, len(refs))
		}
	}
	flood(1000)
	check()
	_ = c.Close()
	c = open1(t, cfg)
	check()
	flood(2000)
	check()
	for _, r := range refs[10:] {
		c.Unpin(r)
	}
	gone := refs[10:]
	refs, datas = refs[:10], datas[:10]
	check()
	_ = c.Close()
	c = open1(t, cfg)
	check()
	flood(3000)
	check()
	for _, r := range gone {
		if c.Has(r) {
			t.Error("a chunk that was unpinned, and not used since, outlived a flood")
			break
		}
	}
}

func TestAllPinned(t *testing.T) {
	const n = 4096
	c := open1(t, Config{Dir: t.TempDir(), Limit: 10 * n, MinFree: -1})
	var last chunk.Ref
	for i := range uint64(10) {
		last, _ = block(i, n)
		c.Pin(last)
		put(t, c, i, n)
	}
	r, data := block(99, n)
	if err := c.Put(r, data); !errors.Is(err, ErrFull) {
		t.Errorf("Put: got %v, want ErrFull", err)
	}
	c.Unpin(last)
	if err := c.Put(r, data); err != nil {
		t.Errorf("Put after Unpin: %v", err)
	}
	if s := c.Stats(); s.Bytes > s.Limit || s.Pinned != 9*n {
		t.Errorf("got %+v", s)
	}
}

func TestPinLogDamage(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	c := open1(t, cfg)
	var refs []chunk.Ref
	for i := range uint64(10) {
		r, _ := block(i, 10)
		c.Pin(r)
		refs = append(refs, r)
	}
	path := c.pinPath()
	_ = c.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[3*pinSize+20] ^= 1 // one record
	b = b[:len(b)-10]    // a torn one at the end
	if os.WriteFile(path, b, 0o600) != nil {
		t.Fatal(err)
	}
	c = open1(t, cfg)
	for i, r := range refs {
		if got, want := c.Pinned(r), i != 3 && i != 9; got != want {
			t.Errorf("pin %d: got %v, want %v", i, got, want)
		}
	}
	c.Pin(refs[9])
	_ = c.Close()
	c = open1(t, cfg)
	if !c.Pinned(refs[9]) || !c.Pinned(refs[8]) {
		t.Error("a pin after mending is lost")
	}
}

func TestPinLogStaysShort(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	c := open1(t, cfg)
	keep, _ := block(1, 10)
	c.Pin(keep)
	r, _ := block(2, 10)
	for range 3 * pinSlack {
		c.Pin(r)
		c.Unpin(r)
	}
	_ = c.Close()
	info, err := os.Stat(c.pinPath())
	if err != nil || info.Size() > (pinSlack+10)*pinSize {
		t.Errorf("got %d bytes, %v, want at most %d records", info.Size(), err, pinSlack+10)
	}
	c = open1(t, cfg)
	if !c.Pinned(keep) || c.Pinned(r) {
		t.Error("pins differ after shrinking")
	}
}
