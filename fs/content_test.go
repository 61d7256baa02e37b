package fs_test

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/fs"
	"wanderfs/fs/fusetest"
)

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestRoot(t *testing.T) {
	d, _, _ := drive(t)
	want(t, "ls", d.Sh(t, "ls $M"), "README.txt\nhash\nsearch\nshared\nstatus\n")
	if got := d.Sh(t, "cat $M/README.txt"); !strings.Contains(got, "wanderfs drive") {
		t.Errorf("README.txt: got %q", got)
	}
	want(t, "size", d.Sh(t, "test $(stat -c %s $M/README.txt) = $(wc -c <$M/README.txt) && echo same"), "same\n")
}

func TestHash(t *testing.T) {
	d, l, _ := drive(t)
	f := l.File([]byte("hello\n"))
	big := make([]byte, 3<<20+17)
	for i := range big {
		big[i] = byte(i * i >> 3)
	}
	b := l.File(big)
	sub := l.Folder("sub", fusetest.Named("x", f))
	dir := l.Folder("dir", fusetest.Named("a", f), fusetest.Named("sub", sub), fusetest.Named("big", b))
	name := f.Ref.Name()

	want(t, "empty listing", d.Sh(t, "ls $M/hash"), "")
	want(t, "cat", d.Sh(t, "cat $M/hash/"+name), "hello\n")
	want(t, "listing", d.Sh(t, "ls $M/hash"), name+"\n")
	want(t, "stat", d.Sh(t, "stat -c '%s %b %a %h %F' $M/hash/"+name), "6 1 644 1 regular file\n")
	want(t, "blocks", d.Sh(t, "stat -c '%s %b' $M/hash/"+b.Ref.Name()), "3145745 6145\n")
	want(t, "du", d.Sh(t, "du --apparent-size -b $M/hash/"+b.Ref.Name()+" | cut -f1"), "3145745\n")

	// Any spelling of a CID opens the same file.
	h := fmt.Sprintf("%x", f.Ref.CID().Bytes())
	want(t, "base16", d.Sh(t, "cat $M/hash/f"+h), "hello\n")
	want(t, "inode", d.Sh(t, "stat -c %i $M/hash/"+name), d.Sh(t, "stat -c %i $M/hash/f"+h))
	v0 := dir.Ref.CID().Hash().B58String()
	want(t, "v0 folder", d.Sh(t, "ls $M/hash/"+v0), "a\nbig\nsub\n")

	want(t, "tree", d.Sh(t, "cd $M/hash/"+dir.Ref.Name()+"; find . | sort"), ".\n./a\n./big\n./sub\n./sub/x\n")
	out := t.TempDir()
	d.Sh(t, "cp -r $M/hash/"+dir.Ref.Name()+" "+out+"/copy")
	if got, err := os.ReadFile(out + "/copy/big"); err != nil || string(got) != string(big) {
		t.Errorf("copied file: got %d bytes, %v; want the %d that were put", len(got), err, len(big))
	}
	if _, status := d.Try(t, "test -x $M/hash/"+name); status == 0 && os.Geteuid() != 0 {
		t.Error("content can be executed")
	}
	// One node a file under whatever name, a folder node in each place.
	ino := func(p string) string { return d.Sh(t, "stat -c %i $M/"+p) }
	want(t, "one file", ino("hash/"+dir.Ref.Name()+"/a"), ino("hash/"+name))
	if ino("hash/"+dir.Ref.Name()+"/sub") == ino("hash/"+sub.Ref.Name()) {
		t.Error("a folder in two places: got one node, want two")
	}
	want(t, "stays", d.Sh(t, "cd $M/hash/"+dir.Ref.Name()+"/sub; ls $M/hash/"+sub.Ref.Name()+">/dev/null; pwd -P; ls"),
		d.Dir+"/hash/"+dir.Ref.Name()+"/sub\nx\n")
}

// TestHashListing opens content in every way: hash/ lists what was opened by
// itself, and of what lies in a folder the folder alone.
func TestHashListing(t *testing.T) {
	d, l, _ := drive(t)
	var songs []chunk.Entry
	for i := range 20 {
		songs = append(songs, fusetest.Named(fmt.Sprintf("%02d.ogg", i), l.File(fmt.Appendf(nil, "song %d", i))))
	}
	cover := l.File([]byte("cover"))
	album := l.Folder("album", append(songs, fusetest.Named("art", l.Folder("art", fusetest.Named("cover.png", cover))))...)
	found := l.File([]byte("found"))
	other := l.Folder("other", fusetest.Named("x", l.File([]byte("x"))))
	l.Find("q", fusetest.Result("found.txt", found), fusetest.Result("other", other))
	lists := func(what string, refs ...chunk.Ref) {
		t.Helper()
		var names []string
		for _, r := range refs {
			names = append(names, r.Name()+"\n")
		}
		sort.Strings(names)
		want(t, what, d.Sh(t, "LC_ALL=C ls $M/hash"), strings.Join(names, ""))
	}
	out := t.TempDir()
	d.Sh(t, "stat $M/hash/"+found.Ref.Name())
	lists("looked at")
	d.Sh(t, "cat $M/hash/"+album.Ref.Name()+"/03.ogg")
	lists("one file of it", album.Ref)
	d.Sh(t, "cp -r $M/hash/"+album.Ref.Name()+" "+out+"/a && cat $M/hash/"+album.Ref.Name()+"/art/cover.png")
	lists("all of it", album.Ref)
	d.Sh(t, "ls $M/search/q && cat $M/search/q/found.txt $M/search/q/other/x")
	lists("found by a search", album.Ref, found.Ref, other.Ref)
	d.Sh(t, "cat $M/hash/"+cover.Ref.Name())
	lists("by its own name, too", album.Ref, found.Ref, other.Ref, cover.Ref)
	d.Sh(t, "setfattr -n user.wanderfs.pin -v 1 $M/hash/"+album.Ref.Name()+"/05.ogg")
	lists("pinned", album.Ref, found.Ref, other.Ref, cover.Ref, songs[5].Ref)
}

func TestHashUnknown(t *testing.T) {
	l := fusetest.NewLibrary()
	d := fusetest.Mount(t, fs.Config{Library: l, LookupTimeout: 300 * time.Millisecond})
	for _, bad := range []string{"x", "bafynonsense", "QmTooShort", ".git", "zzzz", strings.Repeat("b", 255)} {
		out, status := d.Try(t, "cat $M/hash/"+bad)
		if status == 0 || !strings.Contains(out, "No such file") {
			t.Errorf("malformed name: got %q, want ENOENT", out)
		}
	}
	if got := l.Asked(); len(got) != 0 {
		t.Errorf("malformed names: the Library was asked %d times, want 0", len(got))
	}
	// Misspelt names of what is there; the last letter has bits to spare.
	there := l.File([]byte("hello\n")).Ref.Name()
	for slip := there[len(there)-1] + 1; slip <= there[len(there)-1]+3; slip++ {
		if out, _ := d.Try(t, "cat $M/hash/"+there[:len(there)-1]+string(slip)); !strings.Contains(out, "No such file") {
			t.Errorf("misspelt name: got %q, want ENOENT", out)
		}
	}
	if got := l.Asked(); len(got) != 0 {
		t.Errorf("misspelt names: the Library was asked %d times, want 0", len(got))
	}
	unknown := chunk.Raw([]byte("nobody has this")).Name()
	if out, _ := d.Try(t, "cat $M/hash/"+unknown); !strings.Contains(out, "timed out") {
		t.Errorf("unknown CID: got %q, want ETIMEDOUT", out)
	}
	hang(l, "stat")
	start := time.Now()
	if out, _ := d.Try(t, "cat $M/hash/"+unknown); !strings.Contains(out, "timed out") {
		t.Errorf("hanging look-up: got %q, want ETIMEDOUT", out)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("hanging look-up took %v", took)
	}
}

func TestReadOnly(t *testing.T) {
	d, l, s := drive(t)
	f := l.File([]byte("hello\n"))
	dir := l.Folder("ro", fusetest.Named("a", f), fusetest.Named("a2", l.File([]byte("other"))))
	l.Find("q", fusetest.Result("a", f))
	d.Sh(t, "ls $M/search/q")
	for _, c := range []struct{ file, dir string }{
		{"README.txt", ""},
		{"hash/" + f.Ref.Name(), "hash"},
		{"hash/" + dir.Ref.Name() + "/a", "hash/" + dir.Ref.Name()},
		{"search/q/a", "search/q"},
		{"status/peers", "status"},
	} {
		out, err := reexec(t, "write", d.Dir+"/"+c.file, d.Dir+"/"+c.dir).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", c.dir, err, out)
		}
	}
	for _, script := range []string{
		"mv $M/hash/" + f.Ref.Name() + " $M/shared/x", "touch $M/shared/y; mv $M/shared/y $M/hash/y",
		"mv $M/shared/y $M/y", "rmdir $M/hash", "rmdir $M/shared", "mkdir $M/new", "mkdir $M/search/q/sub", "touch $M/search/new-file",
		"ln $M/README.txt $M/shared/z",
	} {
		if out, status := d.Try(t, script); status == 0 || !strings.Contains(out, "Read-only") {
			if script[:3] == "ln " && strings.Contains(out, "not permitted") {
				continue // a hard link into shared
			}
			t.Errorf("%s: got %q, want EROFS", script, out)
		}
	}
	_ = s
}

func TestXattr(t *testing.T) {
	d, l, s := drive(t)
	f := l.File([]byte("hello\n"))
	dir := l.Folder("x", fusetest.Named("a", f))
	get := func(path, name string) string {
		out, _ := d.Try(t, "getfattr --absolute-names --only-values -n "+name+" $M/"+path)
		return strings.TrimSpace(out)
	}
	file, folder := "hash/"+f.Ref.Name(), "hash/"+dir.Ref.Name()
	for name, v := range map[string]string{
		"user.wanderfs.cid": f.Ref.Name(), "user.wanderfs.size": "6", "user.wanderfs.state": "cached",
		"user.wanderfs.cached": "42", "user.wanderfs.sources": "3", "user.wanderfs.mime": "text/plain", "user.wanderfs.pin": "0",
		"ipfs.cid": f.Ref.Name(),
	} {
		want(t, name, get(file, name), v)
	}
	want(t, "folder", get(folder, "user.wanderfs.cid"), dir.Ref.Name())
	for _, name := range []string{"user.wanderfs.error", "user.wanderfs.nonsense", "user.other", "security.selinux"} {
		if got := get(file, name); !strings.Contains(got, "No such attribute") {
			t.Errorf("%s: got %q, want ENODATA", name, got)
		}
	}
	if got := get(file, "system.posix_acl_access"); !strings.Contains(got, "not supported") {
		t.Errorf("acl: got %q, want ENOTSUP", got)
	}
	want(t, "listxattr", d.Sh(t, "getfattr --absolute-names -m - $M/"+file), "")
	d.Sh(t, "setfattr -n user.wanderfs.pin -v 1 $M/"+folder)
	want(t, "pinned", get(folder, "user.wanderfs.pin"), "1")
	if got := d.Sh(t, "ls $M/hash"); !strings.Contains(got, dir.Ref.Name()) {
		t.Errorf("ls hash: got %q, want the pinned folder in it", got)
	}
	d.Sh(t, "setfattr -x user.wanderfs.pin $M/"+folder)
	want(t, "unpinned", get(folder, "user.wanderfs.pin"), "0")

	d.Sh(t, "echo hi > $M/shared/song.txt")
	if got := get("shared/song.txt", "user.wanderfs.cid"); !strings.Contains(got, "No such attribute") {
		t.Errorf("cid before it is computed: got %q, want ENODATA", got)
	}
	s.SetState("song.txt", fs.ShareState{Ref: f.Ref, Phase: "published"})
	want(t, "shared cid", get("shared/song.txt", "user.wanderfs.cid"), f.Ref.Name())
	want(t, "shared ipfs.cid", get("shared/song.txt", "ipfs.cid"), f.Ref.Name())
	want(t, "shared state", get("shared/song.txt", "user.wanderfs.state"), "published")
	want(t, "shared size", get("shared/song.txt", "user.wanderfs.size"), "3")
	d.Sh(t, "cp -a $M/shared/song.txt "+t.TempDir())
}

func TestStatusAndSpace(t *testing.T) {
	d, _, _ := drive(t)
	want(t, "status", d.Sh(t, "cat $M/status/peers"), "peers: none\n")
	want(t, "modes", d.Sh(t, "stat -c %a $M/status $M/status/errors"), "700\n400\n")
	want(t, "df", d.Sh(t, "df --output=size,avail -B1 $M | tail -1 | xargs"), "10737418240 4294967296\n")
}

func TestLocal(t *testing.T) {
	// With a Library that never answers, what is known is told at once.
	l := fusetest.NewLibrary()
	d := fusetest.Mount(t, fs.Config{Library: l, Share: fusetest.NewShare(t.TempDir())})
	f := l.File([]byte("x"))
	dir := l.Folder("l", fusetest.Named("a", f), fusetest.Named("b", f))
	l.Find("q", fusetest.Result("r", f))
	p := "$M/hash/" + dir.Ref.Name()
	d.Sh(t, "ls -l "+p+" $M/search/q")
	hang(l, "stat", "dir", "search", "open", "read")
	start := time.Now()
	d.Sh(t, "ls -l "+p+"; stat $M/search/other $M/search; stat "+p+"/a; df $M; ls $M/hash $M/search; ls -l $M/search/q; "+
		"getfattr -n user.wanderfs.cached "+p+"; touch $M/shared/x; ! stat "+p+"/.DS_Store; ! stat $M/search/q/._x")
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("local things took %v with the network down", took)
	}
}
