package chunk

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEscapeName(t *testing.T) {
	for raw, want := range map[string]string{
		"plain.txt": "plain.txt", "日本語 🦊": "日本語 🦊", "100%.txt": "100%.txt", "50%2f": "50%2f",
		"a/b": "a%2Fb", "..": "%2E%2E", ".": "%2E", "": "%~", "a..b": "a..b", "...": "...",
		"%41": "%2541", "%~x": "%25~x", "%%41": "%%2541", "\x00\n\x7f": "%00%0A%7F", "\u009b31m": "%C2%9B31m",
		"\xff": "%FF", "\xe2\x82": "%E2%82", "\ufffd": "\ufffd", "exe\u202egpj": "exe%E2%80%AEgpj", "\u2066x": "%E2%81%A6x",
		`back\slash`: `back\slash`,
	} {
		got := EscapeName(raw)
		if got != want {
			t.Errorf("%q: got %q, want %q", raw, got, want)
		}
		if back, err := UnescapeName(got); back != raw || err != nil {
			t.Errorf("%q: came back as %q, %v", raw, back, err)
		}
	}
	for _, shown := range []string{"a/b", "..", ".", "", "%41", "%2541%~", "\xff", "x\n", "%25", strings.Repeat("x", 256)} {
		if raw, err := UnescapeName(shown); !errors.Is(err, ErrBadShown) {
			t.Errorf("%q: got %q, %v; want ErrBadShown", shown, raw, err)
		}
	}
}

func TestLongNames(t *testing.T) {
	seen := map[string]string{}
	for _, raw := range []string{
		strings.Repeat("x", 300) + ".mp4", strings.Repeat("x", 301) + ".mp4", strings.Repeat("語", 100) + ".txt",
		strings.Repeat("/", 200), strings.Repeat("a/", 200), strings.Repeat("ab/", 200), strings.Repeat("x", 290) + "." + strings.Repeat("y", 60),
	} {
		got := EscapeName(raw)
		checkShown(t, got)
		if other, double := seen[got]; double {
			t.Errorf("%q and %q are both shown as %q", raw, other, got)
		}
		seen[got] = raw
		if !isCut(got) {
			t.Errorf("%q: not marked as cut", got)
		}
		if i := strings.Index(got, cutMark); strings.HasSuffix(got[:i], "%") || strings.HasSuffix(got[:i], "%2") {
			t.Errorf("%q: half of an escape is left", got)
		}
	}
	if got := EscapeName(strings.Repeat("x", 300) + ".mp4"); !strings.HasSuffix(got, ".mp4") {
		t.Errorf("%q: the extension is lost", got)
	}

	m := newStore()
	long := strings.Repeat("a/", 200)
	leaf := m.raw([]byte("x"))
	d, err := OpenDir(t.Context(), m, m.put(appendNode(nil, []link{{leaf, "b", 1}, {leaf, long, 1}}, folderData())))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := d.LookupShown(t.Context(), EscapeName(long)); e.Name != long || err != nil {
		t.Errorf("got %q, %v", e.Name, err)
	}
	for _, name := range []string{EscapeName(long + "x"), "none", "a/b", "%~"} {
		if _, err := d.LookupShown(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: got %v, want ErrNotFound", name, err)
		}
	}
}

// checkShown fails unless s can stand in a folder of any file system here.
func checkShown(t testing.TB, s string) {
	t.Helper()
	if s == "" || s == "." || s == ".." || len(s) > MaxShown || !utf8.ValidString(s) || strings.ContainsAny(s, "/\x00\n\x7f\u202e") {
		t.Errorf("%q is no safe name", s)
	}
}

func TestTargetInside(t *testing.T) {
	for _, c := range []struct {
		dir, target string
		want        bool
	}{
		{".", "a", true}, {".", "a/../b", true}, {".", "..", false}, {"a", "..", true}, {"a", "../..", false},
		{"a/b", "../../x", true}, {"a/b", "../../../x", false}, {"a", "/etc/passwd", false}, {".", "", false},
		{".", "a/../../b", false}, {".", "./.", true}, {".", "a//b", true}, {".", "a\x00", false},
		{"a", "b/../../../a", false},
	} {
		if got := TargetInside(c.dir, c.target); got != c.want {
			t.Errorf("%q from %q: got %v, want %v", c.target, c.dir, got, c.want)
		}
	}
}
