package index

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite golden files; a changed tokeniser needs a new TokeniserID")

// golden compares got with a file, or writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(string(b), "\n")
	for i, l := range strings.Split(got, "\n") {
		if i >= len(want) || l != want[i] {
			t.Errorf("%s:%d differs: got %q, want %q", file, i+1, l, want[min(i, len(want)-1)])
		}
	}
}

// TestTokensGolden freezes the tokeniser: names in 35 scripts, alone and mixed.
// Each line is the name, a tab, and its words between spaces.
func TestTokensGolden(t *testing.T) {
	f, err := os.Open("testdata/names.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var b strings.Builder
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); n++ {
		fmt.Fprintf(&b, "%s\t%s\n", sc.Text(), strings.Join(Tokens(sc.Text()), " "))
		agree1(t, sc.Text())
	}
	if n < 500 {
		t.Errorf("got %d names, want at least 500", n)
	}
	golden(t, "testdata/"+TokeniserID+".golden", b.String())
}

// TestKeysGolden freezes what follows from a word and from a multihash.
func TestKeysGolden(t *testing.T) {
	var b strings.Builder
	for _, w := range []string{"opera", "東京", "7", "мир"} {
		k := keysOf(w)
		fmt.Fprintf(&b, "word %s\naddress %x\nseal %x\nnonce %x\ntag of blue %x\n", w, k.addr, k.seal, k.nonce, k.tagOf("blue"))
	}
	mh := item("content").Ref.Multihash()
	k := keysOfContent(mh)
	fmt.Fprintf(&b, "multihash %x\naddress %x\nseal %x\n", []byte(mh), k.addr, k.seal)
	golden(t, "testdata/keys.golden", b.String())
}

func TestTokens(t *testing.T) {
	for _, c := range []struct {
		name string
		want []string
	}{
		{"", nil},
		{"🎵 !!", nil},
		{"a 7", []string{"a", "7"}},
		{"Kind_of.Blue-1959", []string{"kind", "of", "blue", "1959"}},
		{"blue Blue BLUE", []string{"blue"}},
		{"l'Opéra", []string{"l", "opera", "lopera"}},
		{"don’t", []string{"don", "t", "dont"}},
		{"AC/DC", []string{"ac", "dc"}},
		{"Straße", []string{"strasse"}},
		{"İI", []string{"ii"}},
		{"ガ", []string{"ガ"}},
		{"Й", []string{"й"}},
		{"東京", []string{"東京", "東", "京"}},
		{"東京物", []string{"東京", "京物", "東", "京", "物"}},
		{"コーヒー2", []string{"コー", "ーヒ", "ヒー", "2"}},
		{"ab\xffcd", []string{"ab", "cd"}},
	} {
		if got := Tokens(c.name); !slices.Equal(got, c.want) {
			t.Errorf("Tokens(%q): got %q, want %q", c.name, got, c.want)
		}
	}
	long := strings.Repeat("人民日报一二三四五六七八九十", 1)
	if got := len(Tokens(long + strings.Repeat(" w", 3) + "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥天地玄黄宇宙洪荒日月盈昃")); got != MaxTokens {
		t.Errorf("long name: got %d words, want %d", got, MaxTokens)
	}
}

type failer interface {
	Helper()
	Errorf(string, ...any)
}

// agree1 checks what publisher and searcher must agree on for any name.
func agree1(t failer, s string) {
	t.Helper()
	f := fold(s)
	if g := fold(f); g != f {
		t.Errorf("fold(fold(%q)): got %q, want %q", s, g, f)
	}
	all := Tokens(s)
	for i, w := range queryTokens(s) {
		if i < MaxTokens && !slices.Contains(all, w) {
			t.Errorf("word %q of a query is none of the name %q", w, s)
		}
		if got := queryTokens(w); !slices.Equal(got, []string{w}) {
			t.Errorf("word %q of %q does not stay itself: got %q", w, s, got)
		}
	}
	if len(all) == 0 != (len(queryTokens(s)) == 0) {
		t.Errorf("name %q: published under %d words, asked for by %d", s, len(all), len(queryTokens(s)))
	}
	if strings.ContainsRune(norm.NFD.String(s), '\u0345') {
		return // iota subscript, which goes as accents do; among capitals it is a letter
	}
	for _, spelt := range []string{strings.ToUpper(s), fold(s)} {
		if strings.EqualFold(spelt, s) && !slices.Equal(Tokens(fold(spelt)), all) {
			t.Errorf("spelling %q and %q of a name have different words", spelt, s)
		}
	}
}

func TestTokensProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { agree1(rt, rapid.String().Draw(rt, "name")) })
}

func FuzzTokens(f *testing.F) {
	for _, s := range []string{"l'Opéra", "東京 tower", "\xff", "ΐ\u0301", "İ", "ﷺ", "ｶﾞ", "e\u034f\u0301", "ภาษาไทย", "צה\"ל", "a\u0300\u0300b", "A\u0345"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) <= MaxName {
			agree1(t, s)
		}
	})
}

func BenchmarkTokens(b *testing.B) {
	for b.Loop() {
		Tokens("Miles Davis - Kind of Blue (50th Anniversary Edition) [1959] [FLAC 24-96].flac")
	}
}
