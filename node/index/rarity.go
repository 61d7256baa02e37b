package index

import (
	"slices"
	"sync"
)

// Rarity remembers how many postings stand under the words that were asked, so
// that the next query asks for its rarest word: a page of that list holds most
// of what is wanted, and the list of a common word may be cut off. It is kept
// in memory only, since the words are what the user looks for. What it knows
// comes from super nodes, who may lie; they can make a query ask for another of
// its words, and nothing else. The zero value is ready; it is safe for
// concurrent use.
type Rarity struct {
	mu    sync.Mutex
	count map[string]uint32 // postings under a word; guarded by mu
}

const (
	maxRarity = 4096 // words remembered; ours
	// unknownRows is what is supposed of a word that was never asked: as many
	// as fill a page. So a word known to be rare is taken, and one known to be
	// common is left for one that may be rare; ours.
	unknownRows = maxPage
)

// learn notes how many postings stand under a word.
func (r *Rarity) learn(word string, n uint32) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == nil {
		r.count = make(map[string]uint32)
	}
	if _, ok := r.count[word]; !ok && len(r.count) >= maxRarity {
		for w := range r.count { // any one
			delete(r.count, w)
			break
		}
	}
	r.count[word] = n
}

// order returns the words, the one to ask for first. Words supposed to be
// equally rare keep their order, the longest first.
func (r *Rarity) order(words []string) []string {
	words = slices.Clone(words)
	if r == nil {
		return words
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rows := func(w string) int64 {
		switch n, ok := r.count[w]; {
		case !ok:
			return unknownRows
		case n == 0: // or those who hold the list were not found: try another
			return unknownRows + 1
		default:
			return int64(n)
		}
	}
	slices.SortStableFunc(words, func(a, b string) int { return int(rows(a) - rows(b)) })
	return words
}
