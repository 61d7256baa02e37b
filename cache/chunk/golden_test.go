package chunk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	mdtest "github.com/ipfs/boxo/ipld/merkledag/test"
)

var update = flag.Bool("update", false, "compute testdata/golden.txt anew, with boxo")

// striped is a long file that is cheap to make: 1 MiB of formula(5) again and
// again, the first 8 bytes of each MiB replaced by its number, big-endian.
type striped struct {
	stripe []byte
	size   int64
}

func newStriped(size int64) *striped { return &striped{formula(5, 1<<20), size} }

func (s *striped) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off < s.size {
		i, in := off>>20, off&(1<<20-1)
		k := copy(p[n:min(int64(len(p)), int64(n)+s.size-off)], s.stripe[in:])
		if in < 8 {
			var head [8]byte
			binary.BigEndian.PutUint64(head[:], uint64(i))
			copy(p[n:n+k], head[in:])
		}
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

type golden struct {
	name  string
	shape shape
	item  func() item
	long  bool
}

func goldens() []golden {
	stripes := func(size int64) func() item {
		return func() item { return item{src: newStriped(size), size: size} }
	}
	bytesOf := func(n int) func() item { return func() item { return file(formula(uint64(n), n)) } }
	with := func(change func(*shape)) shape {
		s := profile
		change(&s)
		return s
	}
	quarter := with(func(s *shape) { s.size = 256 << 10 })
	return []golden{
		{"file-empty", profile, bytesOf(0), false},
		{"file-1B", profile, bytesOf(1), false},
		{"file-256KiB", profile, bytesOf(256 << 10), false},
		{"file-1MiB", profile, bytesOf(1 << 20), false},
		{"file-1MiB+1", profile, bytesOf(1<<20 + 1), false},
		{"file-300-chunks", profile, stripes(300 << 20), true},
		{"file-1GiB", profile, stripes(1 << 30), true},
		{"file-1GiB+1", profile, stripes(1<<30 + 1), true},
		{"file-3-levels-of-16B-chunks", with(func(s *shape) { s.size = 16 }), stripes(3_000_007), false},
		{"file-3-links-of-1KiB-chunks", with(func(s *shape) { s.size, s.links = 1<<10, 3 }), stripes(100_001), false},
		{"file-300MiB-of-256KiB-chunks", quarter, stripes(300 << 20), true},
		{"folder-empty", profile, func() item { return item{folder: map[string]item{}} }, false},
		{"folder-100x100-files", profile, func() item {
			top := map[string]item{}
			for i := range 100 {
				sub := map[string]item{}
				for j := range 100 {
					sub[fmt.Sprintf("f%02d.bin", j)] = file(formula(uint64(i*100+j), 5000))
				}
				top[fmt.Sprintf("d%02d", i)] = item{folder: sub}
			}
			return item{folder: top}
		}, false},
		{"folder-12000-files", profile, func() item {
			d := map[string]item{}
			for i := range 12000 {
				d[fmt.Sprintf("file-%05d.txt", i)] = file(fmt.Append(nil, "content ", i))
			}
			return item{folder: d}
		}, false},
		{"folder-nested", profile, func() item {
			return item{folder: map[string]item{
				"é (composed)": file([]byte("nfc")), "e\u0301 (decomposed)": file([]byte("nfd")),
				"🦊.txt": file([]byte("fox")), "日本語": {folder: map[string]item{"二つ目": file(formula(3, 1<<20+5))}},
				"empty":    {folder: map[string]item{}},
				"link":     {target: "日本語/二つ目"},
				"dangling": {target: "nowhere/at all"},
			}}
		}, false},
		{"folder-block-262143", profile, edge(262143), false},
		{"folder-block-262144", profile, edge(262144), false},
		{"folder-block-262145", profile, edge(262145), false},
		{"folder-strange-names", profile, func() item {
			return item{folder: map[string]item{
				"\xff\xfe": file([]byte("invalid")), "\x01\x1f\x7f": file([]byte("control")),
				"new\nline": file([]byte("newline")), `back\slash`: file([]byte("backslash")),
				strings.Repeat("n", 255): file([]byte("long")),
			}}
		}, false},
	}
}

// edge makes a folder whose plain block would be n bytes long: entries of equal
// length and one whose name, of z, fills up.
func edge(n int) func() item {
	return func() item {
		f := file([]byte("edge"))
		d := map[string]item{}
		l := link{ref: Raw([]byte("edge")), size: 4}
		left := n - 4
		for i := 0; ; i++ {
			l.name = fmt.Sprintf("%018d", i)
			if left-linkLen(l) < 150 {
				break
			}
			left -= linkLen(l)
			d[l.name] = f
		}
		for l.name = "z"; linkLen(l) < left; {
			l.name += "z"
		}
		d[l.name] = f
		return item{folder: d}
	}
}

func TestEdge(t *testing.T) {
	for _, n := range []int{262143, 262144, 262145} {
		m := newStore()
		sh := profile
		sh.plain = 1 << 20
		e := edge(n)().own(t, sh, m)
		if got := len(m.blocks[e.Ref]); got != n {
			t.Errorf("got a block of %d bytes, want %d", got, n)
		}
	}
}

// TestGolden compares with CIDs that boxo computed, and that testdata keeps.
func TestGolden(t *testing.T) {
	const name = "testdata/golden.txt"
	want := map[string]string{}
	text, err := os.ReadFile(name)
	if err != nil && !*update {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) == 2 && f[0] != "#" {
			want[f[0]] = f[1]
		}
	}
	var lines []string
	for _, g := range goldens() {
		if *update {
			want[g.name] = g.item().boxo(t, g.shape, noLeaves{mdtest.Mock()}).Cid().String()
			lines = append(lines, g.name+" "+want[g.name])
		}
		t.Run(g.name, func(t *testing.T) {
			if g.long && testing.Short() {
				t.Skip("long")
			}
			if got := g.item().own(t, g.shape, nil).Ref.Name(); got != want[g.name] {
				t.Errorf("got %s, want %s", got, want[g.name])
			}
		})
	}
	if *update {
		head := "# CIDs under the profile unixfs-v1-2025, computed by boxo v0.43.0 of the inputs in golden_test.go\n"
		slices.Sort(lines)
		if err := os.WriteFile(name, []byte(head+strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, known := range [][2]string{
		{"file-empty", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},
		{"folder-empty", "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"},
	} {
		if want[known[0]] != known[1] {
			t.Errorf("%s: got %s, want %s", known[0], want[known[0]], known[1])
		}
	}
}
