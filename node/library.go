package node

import (
	"context"
	"syscall"

	"wanderfs/cache"
	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/node/share"
)

// localStore is what this node has: the cache, and what it shares itself.
type localStore struct {
	*cache.Cache
	share *share.Share
}

func (s localStore) shared(r chunk.Ref) ([]byte, bool) {
	for _, g := range s.share.Groups() {
		if b, err := s.share.Block(context.Background(), r, g); err == nil {
			return b, true
		}
	}
	return nil, false
}

// Get implements fetch.Store.
func (s localStore) Get(r chunk.Ref) ([]byte, error) {
	b, err := s.Cache.Get(r)
	if err != nil {
		if own, ok := s.shared(r); ok {
			return own, nil
		}
	}
	return b, err
}

// ReadRange implements fetch.Store.
func (s localStore) ReadRange(r chunk.Ref, p []byte, off int64) (int, error) {
	n, err := s.Cache.ReadRange(r, p, off)
	if err != nil {
		if own, ok := s.shared(r); ok {
			if off >= int64(len(own)) {
				return 0, nil
			}
			return copy(p, own[off:]), nil
		}
	}
	return n, err
}

// Put implements fetch.Store, which stores nothing unverified.
func (s localStore) Put(r chunk.Ref, data []byte) error { return s.PutVerified(r, data) }

// Stat says what r is, reached through root. It reads its block, from the
// cache or the network; errors are those of fetch and chunk.
func (n *Node) Stat(ctx context.Context, root, r chunk.Ref) (chunk.Entry, error) {
	return chunk.Stat(ctx, n.fetch.Getter(root), r)
}

// Open opens the file r, reached through root.
func (n *Node) Open(ctx context.Context, root, r chunk.Ref) (*fetch.File, error) {
	return n.fetch.Open(ctx, root, r)
}

// Dir opens the folder r, reached through root. It needs no closing.
func (n *Node) Dir(ctx context.Context, root, r chunk.Ref) (*fetch.Dir, error) {
	return n.fetch.OpenDir(ctx, root, r)
}

// Search opens a query and waits for first results until ctx ends or a few
// askings found nothing. What it returns lives until its Close. A query that cannot
// be asked gives index.ErrQuery.
func (n *Node) Search(ctx context.Context, query string) (*Results, error) {
	return n.search.search(ctx, query)
}

// Keep makes a query standing: it is asked again on its own, also after a
// restart. ErrTooMany and index.ErrQuery say why not.
func (n *Node) Keep(query string) error { return n.search.keep(query) }

// Drop ends a standing query.
func (n *Node) Drop(query string) error { return n.search.drop(query) }

// Kept lists the standing queries in order.
func (n *Node) Kept() []string { return n.search.kept() }

// State is what is known here about some content.
type State struct {
	Cached  int    // percent held in the cache
	Sources int    // sessions connected that share it
	Err     string // why the last read failed, in words
	Pinned  bool
}

// State asks nobody.
func (n *Node) State(r chunk.Ref) State {
	s := n.fetch.State(r)
	return State{
		Cached: n.fetch.Cached(context.Background(), r), Sources: s.Sources, Err: s.Err, Pinned: n.cache.Pinned(r),
	}
}

// Pin keeps r and all below it in the cache, or no longer. It returns at once:
// what is not here is fetched in the background, and after a restart, too. A
// tree that is too large for the cache is kept in part.
func (n *Node) Pin(r chunk.Ref, on bool) error {
	n.pinner.pin(r, on)
	return nil
}

// Pinned lists what the user has pinned.
func (n *Node) Pinned() []chunk.Ref { return n.cache.Pins() }

// Space returns the bytes of the disk that holds cache and shares, and how many
// of them are free.
func (n *Node) Space() (total, free uint64) {
	var st syscall.Statfs_t
	if syscall.Statfs(n.share.Dir(), &st) != nil {
		s := n.cache.Stats()
		return uint64(s.Limit), uint64(max(0, s.Limit-s.Bytes))
	}
	return st.Blocks * uint64(st.Bsize), st.Bavail * uint64(st.Bsize)
}
