package index

import (
	"strings"
	"unicode"

	"github.com/rivo/uniseg"
)

// TokeniserID names the rules by which names become words. It is part of every
// word's key, so that searchers and publishers under different rules never
// mistake each other's records. It changes whenever Tokens does.
const TokeniserID = "wanderfs-tokens-1"

// MaxTokens is how many words of one name are published; a longer name is
// found by its first ones. It equals the size of a batch.
const MaxTokens = 64

// unspaced are scripts written without spaces between words. Unicode's word
// rules give single characters there, so pairs of neighbours are the words.
var unspaced = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana,
	unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar,
	unicode.Tai_Le, unicode.New_Tai_Lue, unicode.Tai_Tham, unicode.Tai_Viet,
}

// isUnspaced also takes the prolonged sound mark, which Unicode counts to no
// script but which stands inside Katakana words.
func isUnspaced(r rune) bool {
	return r == '\u30fc' || unicode.In(r, unspaced...) && unicode.In(r, unicode.L, unicode.N)
}

// isJoiner reports whether r may stand inside one word: apostrophes, and the
// Hebrew geresh and gershayim with their stand-ins.
func isJoiner(r rune) bool {
	switch r {
	case '\'', '\u2019', '\u02bc', '"', '\u05f3', '\u05f4':
		return true
	}
	return false
}

// Tokens returns the words under which a name is found, each once, at most
// MaxTokens. It is consensus-critical, see TokeniserID. The order is: words
// and pairs as they stand in the name, then words written together over an
// apostrophe ("dont" for "don't"), then single Han characters.
func Tokens(name string) []string {
	words, joined, single := split(name)
	return distinct(MaxTokens, words, joined, single)
}

// queryTokens returns the words that a name must hold to answer s: the words
// and pairs alone, so that every spelling with or without an apostrophe that
// Tokens knows is found.
func queryTokens(s string) []string {
	words, _, _ := split(s)
	return distinct(len(words), words)
}

func distinct(limit int, lists ...[]string) []string {
	seen := make(map[string]bool)
	var out []string
	for _, l := range lists {
		for _, w := range l {
			if len(out) == limit {
				return out
			}
			if !seen[w] {
				seen[w] = true
				out = append(out, w)
			}
		}
	}
	return out
}

// split folds s and cuts it by the word rules of UAX #29, with '_', '.' and
// '-' as spaces. A piece is a run of letters, marks and numbers.
func split(s string) (words, joined, single []string) {
	s = strings.Map(func(r rune) rune {
		if r == '_' || r == '.' || r == '-' {
			return ' '
		}
		return r
	}, fold(s))
	var run []string // units of an unspaced run that is still open
	flush := func() {
		if len(run) == 1 {
			words = append(words, run[0])
		}
		for i := range len(run) - 1 {
			words = append(words, run[i]+run[i+1])
		}
		if len(run) > 1 {
			for _, u := range run {
				if r := []rune(u)[0]; unicode.Is(unicode.Han, r) {
					single = append(single, u)
				}
			}
		}
		run = nil
	}
	state := -1
	for len(s) > 0 {
		var seg string
		seg, s, state = uniseg.FirstWordInString(s, state)
		whole := true // no separator but joiners inside
		pieces, units := cut(seg, &whole)
		if len(units) > 0 {
			run = append(run, units...)
			continue
		}
		flush()
		words = append(words, pieces...)
		if len(pieces) > 1 && whole {
			joined = append(joined, strings.Join(pieces, ""))
		}
	}
	flush()
	return words, joined, single
}

// cut takes one segment apart. A segment of an unspaced script gives units
// (a character with its marks), any other one gives pieces.
func cut(seg string, whole *bool) (pieces, units []string) {
	var b strings.Builder
	solid := false // b holds a letter or number, not marks alone
	end := func() {
		if solid {
			pieces = append(pieces, b.String())
		}
		b.Reset()
		solid = false
	}
	for _, r := range seg {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' { // most of them
			solid = true
			b.WriteRune(r)
			continue
		}
		mark := unicode.Is(unicode.M, r)
		switch {
		case isJoiner(r):
			end()
		case mark && len(units) > 0:
			units[len(units)-1] += string(r)
		case isUnspaced(r):
			units = append(units, string(r))
		case unicode.In(r, unicode.L, unicode.N):
			solid = true
			b.WriteRune(r)
		case mark:
			if solid { // a mark whose base is no part of the word is none either
				b.WriteRune(r)
			}
		default:
			*whole = false
			end()
		}
	}
	end()
	if len(units) > 0 && len(pieces) > 0 { // mixed: never happens under UAX #29 but must not lose words
		pieces, units = append(pieces, units...), nil
	}
	return pieces, units
}
