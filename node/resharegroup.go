package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"wanderfs/cache"
	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/node/index"
)

var (
	errNotWhole   = errors.New("not all of it is here")
	errNotOffered = errors.New("not offered")
)

// reshareGroup is a few contents that were read, offered by sessions of their
// own. It implements fetch.Blocks.
type reshareGroup struct {
	*announcer
	cache *cache.Cache
	group *shareGroup

	mu     sync.Mutex
	offers map[chunk.Ref]*offer // by root; guarded by mu
}

// offer is one content. The blocks never change; the rest is used by the
// resharer's run alone, but told.
type offer struct {
	blocks  map[string]chunk.Ref // by multihash: all that is answered for
	check   time.Time            // its sources are counted again
	pointer time.Time            // its pointer is put again
	told    bool                 // it was put once; guarded by reshareGroup.mu
}

func newReshareGroup(a *announcer, c *cache.Cache) (*reshareGroup, error) {
	record, err := index.NewGroup(a.network)
	if err != nil {
		return nil, fmt.Errorf("new group: %w", err)
	}
	g := &reshareGroup{
		announcer: a, cache: c, offers: make(map[chunk.Ref]*offer),
	}
	g.group = &shareGroup{p: g.announcer, record: record, spread: min(spreadNew, a.setup.life/20+1)}
	g.group.server = &fetch.Server{Blocks: g}
	g.wg.Go(g.group.run)
	return g, nil
}

// Block implements fetch.Blocks: it gives blocks of what the group offers, from
// the cache. Content that the cache has lost a part of is withdrawn at once. To
// the server every error is the same, whose answer takes the same time.
func (g *reshareGroup) Block(_ context.Context, r chunk.Ref) ([]byte, error) {
	k := string(r.Multihash())
	if !g.offersBlock(k) {
		return nil, errNotOffered
	}
	b, err := g.cache.Get(r)
	if err != nil {
		if !g.cache.Has(r) { // else it may be readable again
			g.lost(k)
		}
		return nil, errNotOffered
	}
	if !g.offersBlock(k) { // withdrawn while it was read
		return nil, errNotOffered
	}
	return b, nil
}

func (g *reshareGroup) offersBlock(k string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.offers {
		if _, ok := o.blocks[k]; ok {
			return true
		}
	}
	return false
}

// lost withdraws what the block belongs to.
func (g *reshareGroup) lost(k string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for root, o := range g.offers {
		if _, ok := o.blocks[k]; ok {
			delete(g.offers, root)
		}
	}
	signal(g.kick)
}

func (g *reshareGroup) add(root chunk.Ref, o *offer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offers[root] = o
}

func (g *reshareGroup) withdraw(root chunk.Ref) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.offers, root)
}

func (g *reshareGroup) holds(root chunk.Ref) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.offers[root] != nil
}

func (g *reshareGroup) len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.offers)
}

// told counts the contents whose pointer is out.
func (g *reshareGroup) told() (n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.offers {
		if o.told {
			n++
		}
	}
	return n
}

// keep withdraws what g may no longer offer, puts the pointers that are due,
// and ends a group that offers nothing. It returns when the next of this is due.
// Pointers of what was withdrawn expire; the session answers for it no longer.
func (r *resharer) keep(g *reshareGroup, mine map[string]bool) (next time.Time) {
	next = time.Now().Add(reshareLook)
	g.mu.Lock()
	offers := maps.Clone(g.offers)
	g.mu.Unlock()
	for root, o := range offers {
		if r.ctx.Err() != nil {
			return next
		}
		if mine[string(root.Multihash())] || !r.stillHeld(o) || !r.stillShared(root, o) {
			g.withdraw(root)
			continue
		}
		if g.group.isTold() {
			if !time.Now().Before(o.pointer) {
				g.point(r.ctx, root, o)
			}
			next = earlier(next, o.pointer)
		} // else it comes back by kick
		next = earlier(next, o.check)
	}
	if g.len() > 0 {
		return next
	}
	r.mu.Lock()
	r.groups = slices.DeleteFunc(slices.Clone(r.groups), func(o *reshareGroup) bool { return o == g })
	r.mu.Unlock()
	g.Close()
	return next
}

func (r *resharer) stillHeld(o *offer) bool {
	for _, b := range o.blocks {
		if !r.cache.Has(b) {
			return false
		}
	}
	return true
}

// stillShared counts the sources again when that is due. A look-up that fails
// proves nothing.
func (r *resharer) stillShared(root chunk.Ref, o *offer) bool {
	if time.Now().Before(o.check) {
		return true
	}
	live, err := r.count(root)
	o.check = time.Now().Add(r.pause())
	return err != nil || live >= reshareSources
}

// point puts the pointer from root to g, each over a path of its own, and for as
// long as a publisher does: nobody should tell the two apart.
func (g *reshareGroup) point(ctx context.Context, root chunk.Ref, o *offer) {
	now := time.Now()
	rec, err := g.group.record.Pointer(root, now.Add(index.PostingLife-time.Hour))
	if err == nil {
		err = g.put(ctx, []index.Record{rec})
	}
	if err != nil {
		o.pointer = time.Now().Add(putRetry + rand.N(lastPause))
		return
	}
	o.pointer = now.Add(index.PostingLife/2 + rand.N(index.PostingLife/4))
	g.mu.Lock()
	o.told = true
	g.mu.Unlock()
}

// wholeTree returns all blocks of root's tree by multihash if the cache holds
// them all. errNotWhole says that it does not, errTreeTooWide that there are too
// many. It asks nobody.
func wholeTree(ctx context.Context, c *cache.Cache, root chunk.Ref) (map[string]chunk.Ref, error) {
	blocks := make(map[string]chunk.Ref)
	visited := make(map[chunk.Ref]bool) // one block may be met as a leaf and as a node
	for todo := []chunk.Ref{root}; len(todo) > 0; {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		x := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, known := x.Known(); known || visited[x] {
			continue
		}
		visited[x] = true
		blocks[string(x.Multihash())] = x
		if len(visited) > maxReshareBlocks {
			return nil, errTreeTooWide
		}
		if x.IsRaw() {
			if !c.Has(x) {
				return nil, errNotWhole
			}
			continue
		}
		b, err := c.Get(x)
		if err != nil {
			return nil, errNotWhole
		}
		refs, err := chunk.Links(x, b)
		if err != nil {
			continue // no content: nothing below it can be read
		}
		if len(todo)+len(refs) > keepPending {
			return nil, errTreeTooWide
		}
		todo = append(todo, refs...)
	}
	return blocks, nil
}
