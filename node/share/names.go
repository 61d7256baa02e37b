package share

import (
	"path"
	"strings"
)

// maxDepth is how many folders deep a share may go. Ours; deeper ones are
// reported and left out.
const maxDepth = 64

// Hidden reports whether the slash-separated name is kept to oneself: a
// component is hidden (begins with a dot) or is a name that programs use for
// files that are not finished yet. Such names are never published, neither as
// items nor as entries of a folder.
func Hidden(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if hiddenPart(part) {
			return true
		}
	}
	return false
}

// unfinished are the endings, in lower case, of files that are still being
// written by: editors (~, .swp), browsers (.crdownload, .part, .partial,
// .download, .opdownload), download managers (.aria2, .!ut, .!qb, .bc!).
var unfinished = []string{
	"~", ".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".opdownload",
	".aria2", ".!ut", ".!qb", ".bc!", ".filepart", ".swp", ".swo", ".swx",
}

// junk are names, in lower case, that systems strew and nobody means to share.
var junk = map[string]bool{
	"4913":        true, // vim's write test
	"desktop.ini": true, "thumbs.db": true, "autorun.inf": true, "$recycle.bin": true,
	"system volume information": true, "lost+found": true,
}

func hiddenPart(part string) bool {
	if strings.HasPrefix(part, ".") {
		return true // also .goutputstream-*, .~lock*, .*.swp, .nfs*, rsync's .name.XXXXXX
	}
	low := strings.ToLower(part)
	if junk[low] {
		return true
	}
	for _, end := range unfinished {
		if strings.HasSuffix(low, end) {
			return true
		}
	}
	return strings.HasPrefix(low, "~$") || // office's lock files
		strings.HasPrefix(low, "#") && strings.HasSuffix(low, "#") // emacs' autosave
}

// inside reports whether a symlink may be published: target is relative, has
// its ".." only in front, names nothing hidden, and from the folder dir (a
// slash name whose first component is the top-level item) it stays below that
// item. A ".." after a name could leave through another symlink.
func inside(dir, target string) bool {
	if dir == "" || target == "" || len(target) > 4095 || strings.HasPrefix(target, "/") {
		return false
	}
	depth := strings.Count(dir, "/")
	down := false
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			depth--
			if down || depth < 0 {
				return false
			}
		case hiddenPart(part):
			return false
		default:
			down = true
		}
	}
	return true
}

// clean returns name in the form used here, below the shared directory, and
// whether it names something below it.
func clean(name string) (string, bool) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	return name, name != ""
}
