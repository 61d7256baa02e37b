package index

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"wanderfs/cache/chunk"
)

// claim is one posting's word about some content.
type claim struct {
	it      Item
	mark    sourceMark
	key     [32]byte
	expires time.Time
}

// ranking collects claims and orders what they name.
type ranking struct {
	q      Query
	now    time.Time
	claims map[chunk.Ref][]claim
	named  map[[32]byte]int // how many Refs a batch key names
}

func newRanking(q Query) *ranking {
	return &ranking{q: q, now: time.Now(), claims: make(map[chunk.Ref][]claim), named: make(map[[32]byte]int)}
}

func (rk *ranking) len() int { return len(rk.claims) }

// add takes a verified claim. A key counts once for a Ref.
func (rk *ranking) add(it Item, mark sourceMark, key [32]byte, expires time.Time) {
	if !rk.now.Before(expires) {
		return
	}
	list := rk.claims[it.Ref]
	for _, c := range list {
		if c.key == key {
			return
		}
	}
	rk.claims[it.Ref] = append(list, claim{it, mark, key, expires})
	rk.named[key]++
}

type row struct {
	chunk.Result
	score float64
	draw  float64 // smaller is drawn earlier
}

// rows returns the results: in turn the best by score and the next of a sample
// drawn by weight. Counting sources alone is worse than chance once fakes
// outnumber genuine files, so a key's weight is split over all it names for
// the query, and half of the rows do not follow the score at all.
func (rk *ranking) rows() []chunk.Result {
	seed := rk.q.mixed("sample")
	byScore := make([]row, 0, len(rk.claims))
	for ref, claims := range rk.claims {
		weight, fresh := 0.0, 0.0
		sources := make(map[sourceMark]float64, len(claims)) // the weight of each
		for _, c := range claims {
			w := 1 / float64(rk.named[c.key])
			weight += max(0, w-sources[c.mark])
			sources[c.mark] = max(w, sources[c.mark])
			fresh = max(fresh, float64(c.expires.Sub(rk.now))/float64(PostingLife))
		}
		it := favourite(claims)
		score := math.Log2(1+weight) * (0.8 + 0.2*min(1, fresh)) * nameMatch(rk.q, it.Name)
		m := mac(seed, ref.Multihash())
		u := (float64(binary.BigEndian.Uint64(m[:])>>11) + 0.5) / (1 << 53)
		byScore = append(byScore, row{
			Result: chunk.Result{Name: it.Name, Ref: ref, Kind: it.Kind, Size: it.Size, Sources: len(sources)},
			score:  score,
			draw:   -math.Log(u) / weight, // Efraimidis and Spirakis: weighted, without replacement
		})
	}
	tie := func(a, b row) int { return cmp.Or(cmp.Compare(a.draw, b.draw), cmp.Compare(a.Name, b.Name)) }
	slices.SortFunc(byScore, func(a, b row) int { return cmp.Or(cmp.Compare(b.score, a.score), tie(a, b)) })
	byDraw := slices.Clone(byScore)
	slices.SortFunc(byDraw, tie)

	limit := min(rk.q.limit(), len(byScore))
	out := make([]chunk.Result, 0, limit)
	taken := make(map[chunk.Ref]bool, limit)
	lists := [2][]row{byScore, byDraw}
	for turn := 0; len(out) < limit; turn ^= 1 {
		l := lists[turn]
		for taken[l[0].Ref] {
			l = l[1:]
		}
		taken[l[0].Ref] = true
		out = append(out, l[0].Result)
		lists[turn] = l[1:]
	}
	return out
}

// favourite returns what most claims say, the smallest name on a tie.
func favourite(claims []claim) Item {
	n := make(map[Item]int)
	for _, c := range claims {
		n[c.it]++
	}
	var best Item
	for it, k := range n {
		if b := n[best]; k > b || k == b && (it.Name < best.Name || it.Name == best.Name && it.Size < best.Size) {
			best = it
		}
	}
	return best
}

// nameMatch is 0.5..1: how much of the name the words make up.
func nameMatch(q Query, name string) float64 {
	have := len(queryTokens(name))
	return 0.5 + 0.5*min(1, float64(len(q.words))/float64(max(1, have)))
}
