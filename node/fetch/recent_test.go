package fetch

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache/chunk"
)

// countStore counts what it is asked for.
type countStore struct {
	*memStore
	reads, looks atomic.Int64
}

func (s *countStore) ReadRange(r chunk.Ref, p []byte, off int64) (int, error) {
	n, err := s.memStore.ReadRange(r, p, off)
	if err == nil {
		s.reads.Add(1)
	}
	return n, err
}

func (s *countStore) Has(r chunk.Ref) bool {
	s.looks.Add(1)
	return s.memStore.Has(r)
}

// TestReaderNeedsNoStore reads in order what comes over several routes: what
// has just come is read from memory, though chunks come out of order, and the
// store is not asked for what is on its way.
func TestReaderNeedsNoStore(t *testing.T) {
	c := newContent(t, 96<<20, 31)
	synctest.Test(t, func(t *testing.T) {
		var pubs []*publisher
		for i := range 4 {
			p := newPublisher(t, c.blocks)
			p.latency, p.rate = time.Duration(20+20*i)*time.Millisecond, 10e6
			pubs = append(pubs, p)
		}
		s := &countStore{memStore: newMemStore()}
		within(t, Config{Store: s}, pubs, func(f *Fetcher) {
			if err := c.readAll(t.Context(), f, 128<<10); err != nil {
				t.Fatal(err)
			}
		})
		if got, most := s.reads.Load(), int64(len(c.data)/(128<<10)/20); got > most {
			t.Errorf("got %d reads from the store, want at most %d", got, most)
		}
		// Each look ahead may look for the chunks that are new in it.
		if got, most := s.looks.Load(), int64(12*len(c.leaves)); got > most {
			t.Errorf("got %d looks into the store, want at most %d", got, most)
		}
	})
}

func TestRecentKeepsTheUnread(t *testing.T) {
	var c recent
	refs := make([]chunk.Ref, 2*maxRecent)
	bufs := make([]*buffer, len(refs))
	for i := range refs {
		refs[i] = newContent(t, i+1, 7).root
		bufs[i] = &buffer{}
		bufs[i].refs.Store(1)
	}
	held := func(i int) bool { return bufs[i].refs.Load() == 1 }
	for i := range maxRecent {
		c.add(refs[i], bufs[i])
	}
	for i := range maxRead + 1 { // the first maxRead+1 were read: one too many
		c.done(refs[i])
	}
	if held(0) || !held(1) {
		t.Errorf("got %v, %v: want the oldest of the read chunks gone, the next one there", held(0), held(1))
	}
	c.add(refs[maxRecent], bufs[maxRecent]) // into the gap
	for i := range maxRead {
		c.add(refs[maxRecent+1+i], bufs[maxRecent+1+i])
		if held(1+i) || !held(maxRead+1) {
			t.Fatalf("chunk %d: want the read ones gone, and no other", i)
		}
	}
	c.add(refs[2*maxRecent-1], bufs[2*maxRecent-1])
	if held(maxRead + 1) {
		t.Error("want the oldest gone when all are unread")
	}
	b := c.find(refs[maxRecent])
	if b != bufs[maxRecent] || b.refs.Load() != 2 {
		t.Error("want the chunk with one user more")
	}
	b.drop()
	c.clear()
	for i, b := range bufs {
		if b != nil && i <= maxRecent+maxRead && held(i) {
			t.Errorf("chunk %d is held after clear", i)
		}
	}
}
