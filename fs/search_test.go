package fs_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/fs"
	"wanderfs/fs/fusetest"
)

func TestSearch(t *testing.T) {
	d, l, _ := drive(t)
	f := l.File([]byte("hello\n"))
	sub := l.Folder("album", fusetest.Named("one.flac", f))
	l.Find("free jazz", fusetest.Result("free jazz.txt", f), fusetest.Result("jazz, free", sub))

	want(t, "stat", d.Sh(t, "stat -c %F $M/search/'free jazz' $M/search/anything"), "directory\ndirectory\n")
	want(t, "nothing listed", d.Sh(t, "ls $M/search"), "")
	d.Try(t, "stat $M/search/.git $M/search/._x $M/search/desktop.ini; ls $M/search/.Trash-1000; ls $M/search/q/.DS_Store")
	if got := l.Asked(); len(got) != 0 {
		t.Errorf("before opening: got %d questions, want none", len(got))
	}
	want(t, "results", d.Sh(t, "ls $M/search/'free jazz'"), "free jazz.txt\njazz, free\n")
	want(t, "read", d.Sh(t, "cat $M/search/'free jazz/free jazz.txt'"), "hello\n")
	want(t, "folder", d.Sh(t, "cat $M/search/'free jazz'/jazz*/one.flac"), "hello\n")
	want(t, "opened", d.Sh(t, "ls $M/search"), "free jazz\n")
	out := t.TempDir()
	want(t, "cp -r", d.Sh(t, "cp -r $M/search/'free jazz' "+out+"/all; cat "+out+"/all/jazz*/*"), "hello\n")
	want(t, "same file", d.Sh(t, "stat -c %i $M/search/'free jazz/free jazz.txt'"), d.Sh(t, "stat -c %i $M/hash/"+f.Ref.Name()))

	// A remembered path works without a listing before it.
	l.Find("later", fusetest.Result("x.txt", f))
	want(t, "by path", d.Sh(t, "cat $M/search/later/x.txt"), "hello\n")

	if out, status := d.Try(t, "ls $M/search/type:video"); status == 0 || !strings.Contains(out, "Invalid argument") {
		t.Errorf("refused query: got %q, want EINVAL", out)
	}
}

func TestSearchInPlace(t *testing.T) {
	d, l, _ := drive(t)
	a, b := l.File([]byte("a")), l.File([]byte("b"))
	want(t, "nothing yet", d.Sh(t, "ls $M/search/q"), "")
	l.Find("q", fusetest.Result("one", a))
	eventually(t, d, "ls $M/search/q", "one\n")
	l.Find("q", fusetest.Result("one", a), fusetest.Result("two", b))
	eventually(t, d, "ls $M/search/q", "one\ntwo\n")
	// A name that now stands for something else leads there.
	l.Find("q", fusetest.Result("one", b))
	eventually(t, d, "cat $M/search/q/one", "b")
}

func eventually(t *testing.T, d *fusetest.Drive, script, want string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		got, _ := d.Try(t, script)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: got %q, want %q", script, got, want)
		}
	}
}

func TestStandingQuery(t *testing.T) {
	d, l, _ := drive(t)
	d.Sh(t, "ls $M/search/jazz; stat $M/search/jazz; mkdir $M/search/jazz $M/search/'free form'")
	want(t, "kept", strings.Join(l.Kept(), ","), "jazz,free form")
	want(t, "ls", d.Sh(t, "ls $M/search"), "free form\njazz\n")
	if out, status := d.Try(t, "mkdir $M/search/jazz"); status == 0 || !strings.Contains(out, "exists") {
		t.Errorf("mkdir twice: got %q, want EEXIST", out)
	}
	d.Sh(t, "cd $M/search; rmdir jazz; python3 -c 'import os; os.mkdir(\"from a program\")' || mkdir 'from a program'")
	want(t, "kept", strings.Join(l.Kept(), ","), "free form,from a program")
	d.Sh(t, "rmdir $M/search/*")
	want(t, "none kept", strings.Join(l.Kept(), ","), "")
	want(t, "ls", d.Sh(t, "ls $M/search"), "")
	d.Sh(t, "setfattr -n user.wanderfs.pin -v 1 $M/search/pinned")
	want(t, "pinned", strings.Join(l.Kept(), ","), "pinned")
	if out, status := d.Try(t, "mkdir $M/search/.git"); status == 0 {
		t.Errorf("mkdir of a junk name: got %q, want an error", out)
	}
}

func TestSearchWaits(t *testing.T) {
	l := fusetest.NewLibrary()
	d := fusetest.Mount(t, fs.Config{Library: l, SearchTimeout: 300 * time.Millisecond})
	hang(l, "search")
	start := time.Now()
	want(t, "nothing in time", d.Sh(t, "ls $M/search/q"), "")
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("ls took %v", took)
	}
}

// What a publisher claims of size and kind is put right when it is opened.
func TestFalseClaims(t *testing.T) {
	d, l, _ := drive(t)
	f := l.File([]byte("hello\n"))
	g := l.File([]byte("a much longer text than was said\n"))
	sub := l.Folder("claims", fusetest.Named("x", f))
	l.Find("q",
		chunk.Result{Name: "longer", Ref: f.Ref, Kind: chunk.File, Size: 1 << 30},
		chunk.Result{Name: "shorter", Ref: g.Ref, Kind: chunk.File, Size: 2},
		chunk.Result{Name: "folder", Ref: f.Ref, Kind: chunk.Folder},
		chunk.Result{Name: "file", Ref: sub.Ref, Kind: chunk.File, Size: 5},
		chunk.Result{Name: "unknown", Ref: sub.Ref},
	)
	want(t, "longer", d.Sh(t, "cat $M/search/q/longer"), "hello\n")
	want(t, "shorter", d.Sh(t, "cat $M/search/q/shorter"), "a much longer text than was said\n")
	if out, status := d.Try(t, "cat $M/search/q/file"); status == 0 {
		t.Errorf("a folder that is said to be a file: got %q, want an error", out)
	}
}

func TestHostileNames(t *testing.T) {
	d, l, _ := drive(t)
	hostile := []string{"..", ".", "", "/", "a/b", "../../etc/passwd", "nul\x00byte", "new\nline", "\xff\xfe", strings.Repeat("ü", 150),
		strings.Repeat("x", 300) + ".mp3", strings.Repeat("x", 300) + ".ogg", "\u202egpj.exe", "100%", "%2F", "%~", "ünïcödé 日本 🎵", "-rf", " ", "a~b"}
	var entries []chunk.Entry
	var found []chunk.Result
	for i, name := range hostile {
		f := l.File([]byte(fmt.Sprint("content ", i, "\n")))
		entries = append(entries, fusetest.Named(name, f))
		found = append(found, fusetest.Result(name, f))
	}
	dir := l.Folder("hostile", entries...)
	l.Find("q", found...)
	for _, p := range []string{"hash/" + dir.Ref.Name(), "search/q"} {
		script := "cd $M/" + p + "; find . -type f -print0 | xargs -0 cat | sort | uniq | wc -l; find . -mindepth 1 | wc -l"
		n := fmt.Sprintf("%d\n%d\n", len(hostile), len(hostile))
		want(t, p, d.Sh(t, script), n)
		d.Sh(t, "cp -r $M/"+p+" "+t.TempDir()+"/copy")
	}
	// Without a listing before it a cut name is found as well.
	d2, l2, _ := drive(t)
	for i := range hostile {
		l2.File([]byte(fmt.Sprint("content ", i, "\n")))
	}
	l2.Folder("hostile", entries...)
	for i, name := range hostile {
		shown := chunk.EscapeName(name)
		got, err := fusetest.Command(t, "cat", d2.Dir+"/hash/"+dir.Ref.Name()+"/"+shown).Output()
		if err != nil || string(got) != fmt.Sprint("content ", i, "\n") {
			t.Errorf("name %q: got %q, %v", name, got, err)
		}
	}
}

func TestTwins(t *testing.T) {
	d, l, _ := drive(t)
	a, b, c := l.File([]byte("a")), l.File([]byte("b")), l.File([]byte("c"))
	found := []chunk.Result{fusetest.Result("song.mp3", a), fusetest.Result("dir/song.mp3", b), fusetest.Result("other", c), fusetest.Result("again", c)}
	l.Find("q", found...)
	slices.Reverse(found)
	l.Find("reversed", found...)
	mark := func(r chunk.Ref) string { return fmt.Sprintf("song ~%x.mp3", r.Multihash()[2:6]) }
	names := []string{mark(a.Ref), mark(b.Ref)}
	slices.Sort(names)
	got := d.Sh(t, "ls $M/search/q")
	if !strings.Contains(got, strings.Join(names, "\n")) {
		t.Errorf("twins: got %q, want %q in it", got, names)
	}
	if n := strings.Count(got, "\n"); n != 3 {
		t.Errorf("twins: got %d names, want 3", n)
	}
	want(t, "order", strings.Join(names, "\n"), strings.TrimSpace(d.Sh(t, "cd $M/search/reversed; ls | grep song")))
	want(t, "a", d.Sh(t, "cat $M/search/q/'"+mark(a.Ref)+"'"), "a")
	want(t, "plain name leads to one", d.Sh(t, "cat $M/search/q/song.mp3"), d.Sh(t, "cat $M/search/reversed/song.mp3"))
}

func TestSymlinks(t *testing.T) {
	d, l, _ := drive(t)
	f := l.File([]byte("hello\n"))
	sub := l.Folder("inner", fusetest.Named("up", l.Link("../file")), fusetest.Named("out", l.Link("../../file")),
		fusetest.Named("zigzag", l.Link("x/../../../file")))
	bare := l.Link("file")
	bare.Kind, bare.Target = chunk.Unknown, "" // as a listing of strangers has it
	dir := l.Folder("links", fusetest.Named("file", f), fusetest.Named("sub", sub), fusetest.Named("link", l.Link("file")),
		fusetest.Named("absolute", l.Link("/etc/passwd")), fusetest.Named("above", l.Link("../x")), fusetest.Named("dot", l.Link(".")), fusetest.Named("bare", bare))
	p := "$M/hash/" + dir.Ref.Name()
	want(t, "links", d.Sh(t, "cd "+p+"; cat link bare sub/up; readlink link"), "hello\nhello\nhello\nfile\n")
	want(t, "shown", d.Sh(t, "cd "+p+"; ls; ls sub"), "bare\ndot\nfile\nlink\nsub\nup\n")
	if _, status := d.Try(t, "readlink "+p+"/absolute || readlink "+p+"/above || readlink "+p+"/sub/out"); status == 0 {
		t.Error("a symlink that leaves its folder is shown")
	}
}

func TestHugeFolder(t *testing.T) {
	d, l, _ := drive(t)
	f := l.File([]byte("x"))
	var entries []chunk.Entry
	for i := range 10_000 {
		entries = append(entries, fusetest.Named(fmt.Sprintf("%05d %s", i, strings.Repeat("n", 100)), f))
	}
	dir := l.Folder("huge", entries...)
	want(t, "ls", d.Sh(t, "ls $M/hash/"+dir.Ref.Name()+" | wc -l"), "10000\n")
	start := time.Now()
	want(t, "ls -l", d.Sh(t, "ls -l $M/hash/"+dir.Ref.Name()+" | wc -l"), "10001\n")
	first := time.Since(start)
	start = time.Now()
	d.Sh(t, "ls -l $M/hash/"+dir.Ref.Name())
	t.Logf("ls -l of 10 000: %v, again %v", first, time.Since(start))
	if n := len(l.Asked()); n > 2 {
		t.Errorf("listing: the Library was asked %d times, want 2", n)
	}
}

// ls -l of entries whose kind is not known waits for some at once.
func TestUnknownEntries(t *testing.T) {
	d, l, _ := drive(t)
	var entries []chunk.Entry
	for i := range 64 {
		e := l.File([]byte(fmt.Sprint("unknown ", i)))
		e.Kind, e.Size = chunk.Unknown, 0
		entries = append(entries, fusetest.Named(fmt.Sprint("f", i), e))
	}
	dir := l.Folder("unknown", entries...)
	l.SetWait(func(ctx context.Context, method string, r chunk.Ref) error {
		if method == "stat" && r != dir.Ref {
			select {
			case <-time.After(50 * time.Millisecond): // a way through the network
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	start := time.Now()
	want(t, "sizes", d.Sh(t, "ls -l $M/hash/"+dir.Ref.Name()+" | grep -cE ' (9|10) Jan'"), "64\n")
	if took := time.Since(start); took > 64*50*time.Millisecond {
		t.Errorf("ls -l took %v, want less than one answer after the other", took)
	}
}
