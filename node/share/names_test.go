package share

import "testing"

func TestHidden(t *testing.T) {
	for _, name := range []string{
		".a", "a/.b", ".a/b", "x.tmp", "x.TMP", "x.part", "x~", "a/.x.swp", ".goutputstream-XYZ", "x.crdownload",
		"4913", "a/4913", ".DS_Store", "Thumbs.db", "desktop.ini", "~$letter.docx", ".~lock.a.odt#", "#a#", "x.partial",
		".nfs0001", ".file.AbC123", ".Trash-1000/files/a", "x.swp", "x.aria2", "x.download",
	} {
		if !Hidden(name) {
			t.Errorf("%q is published", name)
		}
	}
	for _, name := range []string{"a", "a.b", "tmp", "part", "a/b c", "49130", "#1 hit.mp3", "x.partx", "~a", "\xff", "a.swift"} {
		if Hidden(name) {
			t.Errorf("%q is not published", name)
		}
	}
}

func TestInside(t *testing.T) {
	for _, c := range []struct {
		dir, target string
		want        bool
	}{
		{"top", "a", true},
		{"top", "./a/b", true},
		{"top/sub", "../a", true},
		{"top/sub", "..", true},
		{"top", "..", false},
		{"top", "../top/a", false},
		{"top/sub", "../../x", false},
		{"top/sub", "a/../b", false}, // a may be a symlink itself
		{"top", "/etc/passwd", false},
		{"top", "", false},
		{"", "a", false},
		{"top", ".ssh/key", false},
		{"top/a/b", "../../c", true},
	} {
		if got := inside(c.dir, c.target); got != c.want {
			t.Errorf("inside(%q, %q): got %v", c.dir, c.target, got)
		}
	}
}

func FuzzInside(f *testing.F) {
	f.Add("top/sub", "../a")
	f.Add("top", "a/../../b")
	f.Fuzz(func(t *testing.T, dir, target string) {
		if inside(dir, target) && (target == "" || target[0] == '/') {
			t.Error("not relative")
		}
	})
}
