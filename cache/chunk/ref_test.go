package chunk

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
)

func TestRefHides(t *testing.T) {
	r := Raw([]byte("secret"))
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "ref", r)
	type holder struct{ R Ref }
	text := fmt.Sprint(r, &r) + fmt.Sprintf("%v %+v %#v %s %q %x %d", r, r, r, r, r, r, r) +
		fmt.Sprintf("%v %+v", Entry{Ref: r}, []Ref{r}) + fmt.Sprintf("%v", holder{R: r}) + log.String()
	for _, secret := range []string{r.Name(), r.Name()[10:30], fmt.Sprintf("%x", r.Multihash()), string(r.Multihash()[4:12])} {
		if strings.Contains(text, secret) {
			t.Errorf("the CID shows in %q", text)
		}
	}
}

func TestParse(t *testing.T) {
	want := PB(appendNode(nil, nil, folderData()))
	for _, s := range []string{
		want.Name(), "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn", // the empty folder in versions 1 and 0
		strings.ToUpper(want.Name()[:1]) + strings.ToUpper(want.Name()[1:]),
	} {
		if got, err := Parse(s); got != want || err != nil {
			t.Errorf("%s: got %s, %v; want %s", s, got.Name(), err, want.Name())
		}
	}
	for _, s := range []string{
		"", "x", "README.txt", ".hidden", strings.Repeat("b", MaxName+1),
		"bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", // dag-cbor
		want.Name() + "a",
	} {
		if got, err := Parse(s); !errors.Is(err, ErrBadName) || !got.IsZero() {
			t.Errorf("%q: got %v, want ErrBadName", s, err)
		}
	}
}

// spellings are all the ways to write r, with the letters in the base's case.
func spellings(t *testing.T, r Ref) []string {
	t.Helper()
	emoji, err := r.CID().StringOfBase('🚀')
	if err != nil {
		t.Fatal(err)
	}
	all := []string{emoji}
	for _, b := range "\x000fFbBcCvVtTkKzZmuMU" {
		base, err := cid.ExtractEncoding(string(b) + "a")
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.CID().StringOfBase(base)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if _, inline := r.Inline(); !r.IsRaw() && !inline {
		all = append(all, cid.NewCidV0(r.Multihash()).String())
	}
	return all
}

// TestSpellings lets every letter of a CID, in every base, be another one: then
// it is another CID or none, never the same.
func TestSpellings(t *testing.T) {
	for _, r := range []Ref{PB(nil), Raw(nil), Raw([]byte("a"))} {
		all := spellings(t, r)
		for _, s := range all {
			if got, err := Parse(s); got != r || err != nil {
				t.Errorf("%q: got %s, %v, want %s", s, got.Name(), err, r.Name())
			}
		}
		for _, s := range all {
			folds := strings.Contains("fFbBcCvVtTkK", s[:1])
			if folds {
				other := s[:1] + strings.ToUpper(s[1:])
				if other == s {
					other = s[:1] + strings.ToLower(s[1:])
				}
				if got, err := Parse(other); got != r || err != nil {
					t.Errorf("%q: got %s, %v, want %s", other, got.Name(), err, r.Name())
				}
			}
			found := 0
			for i := 1; i < len(s); i++ {
				for b := byte(1); b < 128; b++ {
					slip := s[:i] + string(rune(b)) + s[i+1:]
					if slip == s || folds && strings.EqualFold(slip, s) {
						continue
					}
					got, err := Parse(slip)
					if got == r {
						t.Fatalf("%q is a second name of %q", slip, s)
					}
					var misspelt *MisspeltError
					if errors.As(err, &misspelt) && i == len(s)-1 && misspelt.Right == r {
						found++
					}
				}
			}
			want := 0
			if strings.Contains("bBvV", s[:1]) {
				want = 6 // two spare bits, and either case
			}
			if found != want {
				t.Errorf("%q has %d endings that are misspelt, want %d", s, found, want)
			}
		}
	}
}

func TestMisspelt(t *testing.T) {
	right := PB(nil)
	name := right.Name()
	slip := name[:len(name)-1] + string(name[len(name)-1]+1)
	got, err := Parse(slip)
	var misspelt *MisspeltError
	if !got.IsZero() || !errors.As(err, &misspelt) || misspelt.Right != right || !errors.Is(err, ErrBadName) {
		t.Fatalf("%s for %s: got %s, %v", slip, name, got.Name(), err)
	}
	if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, name[10:20]) {
		t.Errorf("the CID shows in %q", text)
	}
	for _, s := range []string{
		"m" + strings.TrimPrefix(spellings(t, right)[16], "m") + "\n", // the base's decoder passes over it
		"z" + cid.NewCidV0(right.Multihash()).String(),
	} {
		if got, err := Parse(s); err == nil {
			t.Errorf("%q: got %s, want an error", s, got.Name())
		}
	}
}

func TestVerify(t *testing.T) {
	r := Raw([]byte("a"))
	if err := r.Verify([]byte("a")); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		r    Ref
		data string
	}{{r, "b"}, {r, ""}, {Ref{}, ""}} {
		if err := c.r.Verify([]byte(c.data)); !errors.Is(err, ErrMismatch) {
			t.Errorf("got %v, want ErrMismatch", err)
		}
	}
}
