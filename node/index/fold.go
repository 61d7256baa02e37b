package index

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// foldRounds bounds how often fold repeats itself to reach a fixed point. Two
// rounds suffice for every assigned character; the bound keeps hostile input
// from mattering.
const foldRounds = 4

// fold makes two spellings of one word equal: compatibility decomposition,
// marks dropped from Latin and Greek letters only (a Katakana GA must not
// become KA, nor a Cyrillic short I an I, nor lose Hindi its virama), full
// case folding, compatibility composition. Invisible format characters and
// variation selectors vanish. fold(fold(s)) == fold(s).
//
// It is part of TokeniserID: changing its output for any input needs a new one.
func fold(s string) string {
	s = strings.ToValidUTF8(s, " ")
	for range foldRounds {
		t := foldOnce(s)
		if t == s {
			break
		}
		s = t
	}
	return s
}

func foldOnce(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	bare := false // the last base letter is Latin or Greek
	for _, r := range norm.NFKD.String(s) {
		switch {
		case unicode.Is(unicode.Cf, r), unicode.Is(unicode.Variation_Selector, r):
			continue
		case unicode.Is(unicode.Mn, r):
			if bare {
				continue
			}
		default:
			bare = unicode.In(r, unicode.Latin, unicode.Greek)
		}
		b.WriteRune(r)
	}
	return norm.NFKC.String(cases.Fold().String(b.String()))
}
