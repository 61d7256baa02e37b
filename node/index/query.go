package index

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// MaxQuery is the longest query string in bytes.
	MaxQuery = 512
	// MaxQueryWords is how many distinct words a query may hold; pairs of
	// characters in scripts without spaces count as words.
	MaxQueryWords = maxTags + 1
	// DefaultResults is how many results a Search returns at most when
	// Query.Limit is 0.
	DefaultResults = 1000
)

// ErrQuery says that a query cannot be asked. Its text, wrapped around, tells
// the user why, without repeating the query.
var ErrQuery = errors.New("query not understood")

// Query is a parsed search: words that a name must all hold. It hides itself
// in logs.
type Query struct {
	words []string // distinct; the longest first

	// Limit is how many results are wanted, 0 = DefaultResults.
	Limit int
	// Seed decides which results are sampled. The same seed gives the same
	// order of the same results, so that a listing is repeatable. A caller who
	// mixes in a secret of its own keeps publishers from working towards a good
	// place. Zero is allowed. Nothing of it is sent.
	Seed [32]byte
	// Rarity chooses the word that is addressed, and learns from the answers;
	// shared by all queries of a user. nil: the longest word.
	Rarity *Rarity
}

// ParseQuery reads words that are all to be found in a name, in any case and
// with or without accents. It refuses, with ErrQuery, a query without a word,
// one that is too long, and the filters type:, min:, max: and -word, which
// this version does not know yet.
func ParseQuery(s string) (Query, error) {
	if len(s) > MaxQuery {
		return Query{}, fmt.Errorf("%w: longer than %d bytes", ErrQuery, MaxQuery)
	}
	if !utf8.ValidString(s) {
		return Query{}, fmt.Errorf("%w: not UTF-8 text", ErrQuery)
	}
	for _, f := range strings.Fields(s) {
		if filter := filterOf(f); filter != "" {
			return Query{}, fmt.Errorf("%w: the filter %s is not supported yet; leave it out", ErrQuery, filter)
		}
	}
	words := queryTokens(s)
	if len(words) == 0 {
		return Query{}, fmt.Errorf("%w: it needs at least one word", ErrQuery)
	}
	if len(words) > MaxQueryWords {
		return Query{}, fmt.Errorf("%w: more than %d words", ErrQuery, MaxQueryWords)
	}
	// The longest word is most likely the rarest: its list is the one to ask
	// while nothing better is known.
	slices.SortFunc(words, func(a, b string) int {
		return cmp.Or(utf8.RuneCountInString(b)-utf8.RuneCountInString(a), strings.Compare(a, b))
	})
	return Query{words: words}, nil
}

func filterOf(field string) string {
	low := strings.ToLower(field)
	for _, p := range []string{"type:", "min:", "max:"} {
		if strings.HasPrefix(low, p) {
			return p
		}
	}
	if len(field) > 1 && field[0] == '-' {
		return "-word"
	}
	return ""
}

// Words returns the folded words, the longest first. They tell
// what the user looks for.
func (q Query) Words() []string { return slices.Clone(q.words) }

// matches reports whether a name holds every word of q.
func (q Query) matches(name string) bool {
	have := Tokens(name)
	for _, w := range q.words {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// mixed returns the seed for one use of the query.
func (q Query) mixed(use string) [32]byte {
	h := sha256.New()
	h.Write([]byte("wanderfs/index/seed/1\x00" + use + "\x00"))
	h.Write(q.Seed[:])
	for _, w := range q.words {
		h.Write([]byte(w + "\x00"))
	}
	return [32]byte(h.Sum(nil))
}

// String hides the query.
func (Query) String() string { return "[query]" }

// GoString hides the query.
func (Query) GoString() string { return "[query]" }

// Format hides the query under every verb.
func (Query) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("[query]")) }

// LogValue hides the query.
func (Query) LogValue() slog.Value { return slog.StringValue("[query]") }
