package index

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseQuery(t *testing.T) {
	for _, c := range []struct {
		query string
		want  []string
	}{
		{"Kind of BLUE", []string{"blue", "kind", "of"}},
		{"l'Opéra", []string{"opera", "l"}},
		{"7", []string{"7"}},
		{"free-jazz", []string{"free", "jazz"}},
		{"- jazz -", []string{"jazz"}},
		{"jazz jazz", []string{"jazz"}},
		{"東京物語", []string{"京物", "東京", "物語"}},
		{"a:b maximum", []string{"maximum", "a", "b"}},
	} {
		q, err := ParseQuery(c.query)
		if got := q.Words(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("ParseQuery(%q): got %q, %v, want %q", c.query, got, err, c.want)
		}
	}
	var many []string
	for i := range MaxQueryWords + 1 {
		many = append(many, fmt.Sprint("w", i))
	}
	for _, c := range []struct{ query, says string }{
		{"", "at least one word"},
		{"  🎵 ", "at least one word"},
		{"type:video jazz", "type:"},
		{"jazz MIN:10M", "min:"},
		{"max:1G", "max:"},
		{"jazz -miles", "-word"},
		{strings.Repeat("a ", 300), "512 bytes"},
		{strings.Join(many, " "), "32 words"},
		{"a\xff", "UTF-8"},
	} {
		_, err := ParseQuery(c.query)
		if !errors.Is(err, ErrQuery) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("ParseQuery(%q): got %v, want an ErrQuery that says %q", c.query, err, c.says)
		}
		if strings.Contains(fmt.Sprint(err), "miles") {
			t.Errorf("the error repeats the query")
		}
	}
	q, err := ParseQuery(strings.Join(many[1:], " "))
	if err != nil || len(q.Words()) != MaxQueryWords {
		t.Errorf("%d words: got %v", MaxQueryWords, err)
	}
}

func TestSecretsHide(t *testing.T) {
	q, _ := ParseQuery("hidden")
	g, _ := NewGroup("hidden")
	b, _ := NewBatch("")
	recs, _ := b.Postings(item("hidden"), q1h())
	for _, v := range []any{q, &q, g, recs[0], recs} {
		for _, verb := range []string{"%v", "%s", "%+v", "%#v"} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "hidden") || len(s) > 40 {
				t.Errorf("%T under %s tells too much", v, verb)
			}
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add("kind of blue")
	f.Add("type:video -x")
	f.Fuzz(func(t *testing.T, s string) {
		q, err := ParseQuery(s)
		if err != nil {
			return
		}
		if n := len(q.Words()); n == 0 || n > MaxQueryWords {
			t.Errorf("got %d words", n)
		}
		if len(Tokens(s)) < MaxTokens && !q.matches(s) {
			t.Errorf("a name does not answer itself as a query")
		}
	})
}
