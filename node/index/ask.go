package index

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"wanderfs/cache/chunk"
)

// Asker asks the far end of a path. relay.Path is one. It must be safe for
// concurrent use.
type Asker interface {
	Ask(ctx context.Context, req []byte) ([]byte, error)
}

// ErrNotStored says that a record was kept by no super node. A later Put may
// work; putting again what was stored does no harm.
var ErrNotStored = errors.New("record stored nowhere")

const (
	putBytes     = 256 << 10 // of one put request; ours
	maxPages     = 8         // asked for one search; ours
	maxGroups    = 32        // group records asked for one Find; ours
	groupsAtOnce = 8         // in parallel; ours
)

// Put stores records at their super nodes through a's far end. It returns nil
// when every record was stored at least once, ErrNotStored when one was not,
// or the error of the asking.
func Put(ctx context.Context, a Asker, recs []Record) error {
	for len(recs) > 0 {
		n, size := 0, 0
		for n < len(recs) && n < maxPut && size+len(recs[n].b) <= putBytes {
			size += len(recs[n].b)
			n++
		}
		ans, err := a.Ask(ctx, encodePut(recs[:n]))
		if err != nil {
			return fmt.Errorf("put records: %w", err)
		}
		copies, err := parseCopies(ans, n)
		if err != nil {
			return fmt.Errorf("put records: %w", err)
		}
		lost := 0
		for _, c := range copies {
			if c == 0 {
				lost++
			}
		}
		if lost > 0 {
			return fmt.Errorf("put records: %w: %d of %d", ErrNotStored, lost, n)
		}
		recs = recs[n:]
	}
	return nil
}

// Search asks for the query on one network and returns what was found, ranked,
// deduplicated by Ref and checked against the words: at most q.Limit rows. An
// error comes only when nothing could be asked; later pages that fail leave
// the rows of the earlier ones. Names are hostile input.
func Search(ctx context.Context, network string, a Asker, q Query) ([]chunk.Result, error) {
	return SearchEach(ctx, network, a, q, nil)
}

// SearchEach is Search that also hands the whole ranked list to page after
// each page but the last.
func SearchEach(ctx context.Context, network string, a Asker, q Query, page func([]chunk.Result)) ([]chunk.Result, error) {
	if len(q.words) == 0 {
		return nil, fmt.Errorf("%w: it needs at least one word", ErrQuery)
	}
	words := q.Rarity.order(q.words)
	k := keysOf(words[0])
	req := getRequest{Kind: Posting, Addr: k.addr, Limit: maxPage}
	rand.Read(req.Start[:]) // never fails; new each time: super nodes see it, and would know the asker of before by it
	for _, w := range words[1:] {
		req.Tags = append(req.Tags, k.tagOf(w))
	}
	rk := newRanking(q)
	for n := range maxPages {
		ans, err := get(ctx, a, req)
		if err != nil {
			if n > 0 {
				break
			}
			return nil, fmt.Errorf("search: %w", err)
		}
		q.Rarity.learn(words[0], ans.Total)
		for _, r := range ans.Records {
			it, mark, err := openPosting(k, r)
			if err != nil || !req.accepts(r) || !q.matches(it.Name) || r.Verify(network) != nil {
				continue
			}
			rk.add(it, mark, r.key(), r.Expires())
		}
		if !ans.More || rk.len() >= q.limit() {
			break
		}
		if req.Resume && !before(req.Start, req.After, ans.Next) {
			break // an answer that goes backwards would never end
		}
		req.After, req.Resume = ans.Next, true
		if page != nil {
			page(rk.rows())
		}
	}
	return rk.rows(), nil
}

func (q Query) limit() int {
	if q.Limit <= 0 {
		return DefaultResults
	}
	return q.Limit
}

func get(ctx context.Context, a Asker, req getRequest) (getAnswer, error) {
	b, err := a.Ask(ctx, req.encode())
	if err != nil {
		return getAnswer{}, err
	}
	return parseGot(b)
}

// Find returns the sources of content on one network, each the wire.SourceSize
// bytes of a wire.Source, distinct, in no order. The caller verifies them. No
// source and no error means that nobody is known to have it. When ctx ends,
// what was found by then is returned.
func Find(ctx context.Context, network string, a Asker, r chunk.Ref) ([][]byte, error) {
	if r.IsZero() {
		return nil, nil
	}
	k := keysOfContent(r.Multihash())
	start := randomNonce() // so that a flooded list is entered anywhere
	req := getRequest{Kind: Pointer, Addr: k.addr, Limit: maxPage}
	copy(req.Start[:], start[:])
	ans, err := get(ctx, a, req)
	if err != nil {
		return nil, fmt.Errorf("find: %w", err)
	}
	var groups []groupRef
	seen := make(map[groupRef]bool)
	for _, rec := range ans.Records {
		g, err := openPointer(k, rec)
		if err != nil || seen[g] || !rec.lives() || rec.Verify(network) != nil {
			continue
		}
		seen[g] = true
		if groups = append(groups, g); len(groups) == maxGroups {
			break
		}
	}
	var (
		mu      sync.Mutex
		sources [][]byte
		failed  error
		wg      sync.WaitGroup
		slots   = make(chan struct{}, groupsAtOnce)
	)
	for _, g := range groups {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			src, err := groupSource(ctx, network, a, g)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				failed = err
			case src != nil:
				sources = append(sources, src)
			}
		})
	}
	wg.Wait()
	if len(sources) == 0 && failed != nil {
		return nil, fmt.Errorf("find: %w", failed)
	}
	return sources, nil
}

// groupSource returns the newest source of one group, nil if there is none.
func groupSource(ctx context.Context, network string, a Asker, g groupRef) ([]byte, error) {
	ans, err := get(ctx, a, getRequest{Kind: GroupInfo, Addr: g.addr, Limit: maxPage})
	if err != nil {
		return nil, err
	}
	var best []byte
	var seq uint64
	for _, r := range ans.Records {
		if best != nil && r.Seq() <= seq || !r.lives() || r.Verify(network) != nil {
			continue
		}
		if src, err := g.open(r); err == nil {
			best, seq = src, r.Seq()
		}
	}
	return best, nil
}
