package chunk

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path"
	"strings"
	"unicode/utf8"
)

// MaxShown is the longest name, in bytes, that EscapeName makes: NAME_MAX of
// Linux.
const MaxShown = 255

// ErrBadShown says that a name was not made by EscapeName, or was cut by it.
var ErrBadShown = errors.New("not an escaped name")

var errStop = errors.New("stop")

const (
	upperHex = "0123456789ABCDEF"
	cutMark  = "%~"
)

// EscapeName turns a name from a DAG, any bytes, into one that is safe to show
// in a folder: valid UTF-8, without slash, control characters and characters
// that turn the direction of text, never "." or "..", at most MaxShown bytes.
// Bytes that cannot be shown become %XX; a % stays as it is unless it would
// look like an escape. Different names give different results. A result that
// would be too long is cut and carries a mark with 64 bits of the name's hash,
// before its extension.
func EscapeName(raw string) string {
	s := escape(raw)
	if len(s) <= MaxShown {
		return s
	}
	ext := path.Ext(s)
	if len(ext) > 16 || strings.Contains(ext, "%") {
		ext = ""
	}
	h := sha256.Sum256([]byte(raw))
	tail := cutMark + hex.EncodeToString(h[:8]) + ext
	cut := MaxShown - len(tail)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	for i := 1; i <= 2; i++ { // leave no half of an escape
		if s[cut-i] == '%' {
			cut -= i
			break
		}
	}
	return s[:cut] + tail
}

func escape(raw string) string {
	switch raw {
	case "":
		return cutMark
	case ".":
		return "%2E"
	case "..":
		return "%2E%2E"
	}
	var b strings.Builder
	for i := 0; i < len(raw); {
		r, n := utf8.DecodeRuneInString(raw[i:])
		if hidden(r, n) || r == '%' && special(raw[i+1:]) {
			for _, c := range []byte(raw[i : i+n]) {
				b.WriteByte('%')
				b.WriteByte(upperHex[c>>4])
				b.WriteByte(upperHex[c&15])
			}
		} else {
			b.WriteString(raw[i : i+n])
		}
		i += n
	}
	return b.String()
}

// hidden reports whether rune r, n bytes long, must not be shown: slash,
// control characters, invalid UTF-8, and the bidirectional controls with
// which "gpj.exe" is made to look like "exe.jpg".
func hidden(r rune, n int) bool {
	switch {
	case r == '/', r < 0x20, r >= 0x7f && r < 0xa0:
		return true
	case r == utf8.RuneError && n <= 1:
		return true
	case r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}

// special reports whether a % before s would look like an escape.
func special(s string) bool {
	if strings.HasPrefix(s, "~") {
		return true
	}
	return len(s) >= 2 && unhex(s[0]) >= 0 && unhex(s[1]) >= 0
}

func unhex(c byte) int { return strings.IndexByte(upperHex, c) }

// UnescapeName returns the name that EscapeName showed as shown. What
// EscapeName does not make gives ErrBadShown, so that one entry is found under
// one name only; so does a name that was cut: Dir.LookupShown finds those.
func UnescapeName(shown string) (string, error) {
	if len(shown) > MaxShown {
		return "", ErrBadShown
	}
	if shown == cutMark {
		return "", nil
	}
	var b strings.Builder
	for i := 0; i < len(shown); {
		if shown[i] == '%' && special(shown[i+1:]) {
			if shown[i+1] == '~' {
				return "", ErrBadShown
			}
			b.WriteByte(byte(unhex(shown[i+1])<<4 | unhex(shown[i+2])))
			i += 3
			continue
		}
		b.WriteByte(shown[i])
		i++
	}
	if raw := b.String(); EscapeName(raw) == shown {
		return raw, nil
	}
	return "", ErrBadShown
}

// isCut reports whether shown carries the mark of a cut name.
func isCut(shown string) bool {
	return len(shown) <= MaxShown && len(shown) > len(cutMark) && strings.Contains(shown, cutMark)
}

// TargetInside reports whether a symlink in folder dir, a slash path below
// some root ("." for the root itself), leads to a place below that root, going
// by the names alone. Only such symlinks are published or shown.
func TargetInside(dir, target string) bool {
	if target == "" || len(target) > maxTarget || target[0] == '/' || strings.IndexByte(target, 0) >= 0 {
		return false
	}
	depth := 0
	if d := path.Clean(dir); d != "." {
		depth = strings.Count(d, "/") + 1
	}
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return false
			}
		default:
			depth++
		}
	}
	return true
}
