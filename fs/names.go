package fs

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"sort"
	"strings"
	"unicode/utf8"

	"wanderfs/cache/chunk"
)

const nameMax = 255 // bytes; NAME_MAX of Linux

// junk reports whether a name is one that programs try everywhere. Such
// names never reach the Library: probing must not leave the machine.
func junk(name string) bool {
	for _, p := range []string{"._", ".Trash", ".xdg-volume-info", ".fuse_hidden", ".nfs", ".goutputstream-"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	switch strings.ToLower(name) {
	case ".ds_store", "desktop.ini", "thumbs.db", "autorun.inf", ".hidden", ".directory", ".localized",
		".git", ".svn", ".hg", ".bzr", ".nomedia", ".trackerignore", ".metadata_never_index",
		".spotlight-v100", ".fseventsd", ".volumeicon.icns":
		return true
	}
	return false
}

// shown makes a name from a DAG or a publisher fit to be one component. All
// names can be shown, and different ones differ.
func shown(raw string) string { return chunk.EscapeName(raw) }

// validShown reports whether s can be one component of a path as it is.
func validShown(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= nameMax && strings.IndexByte(s, 0) < 0 && strings.IndexByte(s, '/') < 0
}

// listing is what a folder or a query holds, by the names that are shown.
type listing[T any] struct {
	names []string // sorted
	by    map[string]T
}

func newListing[T any](by map[string]T) *listing[T] {
	l := &listing[T]{by: by, names: make([]string, 0, len(by))}
	for name := range by {
		l.names = append(l.names, name)
	}
	sort.Strings(l.names)
	return l
}

// resultNames gives every result a name of its own that depends on the
// results alone and not on their order. Names that several results bear get
// ` ~<8 hex>` of the hash before the extension. The plain name still leads
// to the one with the least hash, in plain, so that a name in use does not
// vanish when another result arrives.
func resultNames(results []chunk.Result) (all *listing[chunk.Result], plain map[string]chunk.Result) {
	groups := make(map[string][]chunk.Result)
	seen := make(map[chunk.Ref]bool)
	for _, r := range results {
		if r.Ref.IsZero() || seen[r.Ref] {
			continue
		}
		seen[r.Ref] = true
		name := shown(r.Name[strings.LastIndexByte(r.Name, '/')+1:])
		groups[name] = append(groups[name], r)
	}
	by := make(map[string]chunk.Result, len(seen))
	plain = make(map[string]chunk.Result)
	for name, group := range groups {
		if len(group) == 1 && by[name].Ref.IsZero() {
			by[name] = group[0]
			continue
		}
		sort.Slice(group, func(i, j int) bool { return group[i].Ref.Name() < group[j].Ref.Name() })
		plain[name] = group[0]
		for _, r := range group {
			for n := 8; n <= 64; n += 8 {
				if s := withHash(name, r.Ref, n); by[s].Ref.IsZero() {
					by[s] = r
					break
				}
			}
		}
	}
	return newListing(by), plain
}

// withHash inserts ` ~<n hex>` before the extension and keeps within NAME_MAX.
func withHash(name string, r chunk.Ref, n int) string {
	h := sha256.Sum256(r.Multihash())
	if mh := r.Multihash(); len(mh) == 2+sha256.Size {
		copy(h[:], mh[2:])
	}
	mark := " ~" + hex.EncodeToString(h[:])[:n]
	ext := path.Ext(name)
	if len(ext) > 16 || len(ext) == len(name) {
		ext = ""
	}
	stem := strings.TrimSuffix(name, ext)
	for len(stem)+len(mark)+len(ext) > nameMax {
		_, size := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-size]
	}
	return stem + mark + ext
}

// inside reports whether a symlink, depth folders below the folder that the
// user opened, stays in there: relative, upwards first and never above the
// top, and not upwards again, for a name may be a link itself. It returns
// the target with every name as it is shown.
func inside(target string, depth int) (string, bool) {
	if target == "" || len(target) > 1000 || target[0] == '/' {
		return "", false
	}
	parts := strings.Split(target, "/")
	down := false
	for i, p := range parts {
		switch p {
		case "", ".":
		case "..":
			depth--
			if down || depth < 0 {
				return "", false
			}
		default:
			down = true
			parts[i] = shown(p)
		}
	}
	return strings.Join(parts, "/"), true
}
