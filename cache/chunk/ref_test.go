package chunk

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
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
