package index

import (
	"strings"
	"unicode"
	"unicode/utf8"

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
// case folding, compatibility composition. Invisible format characters, enclosing
// marks, variation selectors and the Arabic tatweel vanish. fold(fold(s)) == fold(s).
//
// It is part of TokeniserID: changing its output for any input needs a new one.
func fold(s string) string {
	if isASCII(s) {
		return strings.ToLower(s) // all that the rules below do to it
	}
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

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func foldOnce(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	bare := false // the last base letter is Latin or Greek
	for _, r := range norm.NFKD.String(s) {
		switch {
		case unicode.In(r, unicode.Cf, unicode.Me, unicode.Variation_Selector) || r == tatweel:
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
	return norm.NFKC.String(plain.Replace(strings.Map(cherokee, cases.Fold().String(b.String()))))
}

// tatweel stretches Arabic words and means nothing.
const tatweel = '\u0640'

// plain are Latin letters that decompose to nothing but are typed without
// their stroke or ligature on most keyboards.
var plain = strings.NewReplacer("ø", "o", "ł", "l", "đ", "d", "ħ", "h", "ŧ", "t", "ı", "i",
	"æ", "ae", "œ", "oe", "ð", "d", "þ", "th")

// cherokee folds the script's small letters to its capitals, as Unicode's
// CaseFolding.txt has it and golang.org/x/text leaves out.
func cherokee(r rune) rune {
	switch {
	case r >= 0xab70 && r <= 0xabbf:
		return r - 0xab70 + 0x13a0
	case r >= 0x13f8 && r <= 0x13fd:
		return r - 8
	}
	return r
}
