package chunk

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	chunker "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/merkledag"
	mdtest "github.com/ipfs/boxo/ipld/merkledag/test"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	"github.com/ipfs/boxo/ipld/unixfs/importer/trickle"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// item describes a file, a folder or a symlink to both writers: ours and boxo.
type item struct {
	size   int64
	src    io.ReaderAt // of a file
	target string      // of a symlink
	folder map[string]item
}

func file(b []byte) item { return item{src: bytes.NewReader(b), size: int64(len(b))} }

// own builds it with this package.
func (it item) own(t testing.TB, sh shape, s Sink) Entry {
	t.Helper()
	var e Entry
	var err error
	switch {
	case it.folder != nil:
		var list []Entry
		for name, kid := range it.folder {
			k := kid.own(t, sh, s)
			k.Name = name
			list = append(list, k)
		}
		e, err = sh.folder(list, s)
	case it.target != "":
		e, err = EncodeSymlink(it.target, s)
	default:
		e, err = sh.file(t.Context(), it.src, it.size, s, 3)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// boxo builds it with the oracle.
func (it item) boxo(t testing.TB, sh shape, ds ipld.DAGService) ipld.Node {
	t.Helper()
	builder := uio.UnixFS_v1_2025.CidBuilder()
	var n ipld.Node
	var err error
	switch {
	case it.folder != nil:
		var dir uio.Directory
		dir, err = uio.NewDirectory(ds, uio.WithCidBuilder(builder), uio.WithMaxHAMTFanout(sh.fanout),
			uio.WithSizeEstimationMode(uio.SizeEstimationBlock))
		if err != nil {
			t.Fatal(err)
		}
		dir.SetHAMTShardingSize(sh.plain)
		for _, name := range slices.Sorted(maps.Keys(it.folder)) {
			if err := dir.AddChild(t.Context(), name, it.folder[name].boxo(t, sh, ds)); err != nil {
				t.Fatal(err)
			}
		}
		n, err = dir.GetNode()
	case it.target != "":
		var b []byte
		if b, err = unixfs.SymlinkData(it.target); err == nil {
			p := merkledag.NodeWithData(b)
			err = p.SetCidBuilder(builder)
			n = p
		}
	default:
		params := helpers.DagBuilderParams{Maxlinks: sh.links, RawLeaves: true, CidBuilder: builder, Dagserv: ds}
		var db *helpers.DagBuilderHelper
		db, err = params.New(chunker.NewSizeSplitter(io.NewSectionReader(it.src, 0, it.size), sh.size))
		if err == nil {
			n, err = balanced.Layout(db)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := ds.Add(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	return n
}

// noLeaves is a DAGService that keeps no raw leaves, to import much.
type noLeaves struct{ ipld.DAGService }

func (d noLeaves) Add(ctx context.Context, n ipld.Node) error {
	if n.Cid().Type() == cid.Raw {
		return nil
	}
	return d.DAGService.Add(ctx, n)
}

// boxoGetter reads the oracle's blocks.
type boxoGetter struct{ ds ipld.DAGService }

func (g boxoGetter) Get(ctx context.Context, r Ref) ([]byte, error) {
	n, err := g.ds.Get(ctx, r.CID())
	if err != nil { // written as version 0
		if n, err = g.ds.Get(ctx, cid.NewCidV0(r.Multihash())); err != nil {
			return nil, err
		}
	}
	return n.RawData(), nil
}

// randomTree makes a tree of folders, files and symlinks.
func randomTree(rng *rand.Rand, depth int) item {
	dir := item{folder: map[string]item{}}
	for range rng.IntN(60) {
		name := string(formula(rng.Uint64(), 1+rng.IntN(12)))
		switch k := rng.IntN(10); {
		case !goodName(name) || bytes.ContainsAny([]byte(name), "/"):
		case k == 0 && depth > 0:
			dir.folder[name] = randomTree(rng, depth-1)
		case k == 1:
			dir.folder[name] = item{target: fmt.Sprintf("x%d/y", rng.IntN(1000))}
		default:
			dir.folder[name] = file(formula(rng.Uint64(), rng.IntN(3000)))
		}
	}
	return dir
}

func TestTreesLikeBoxo(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 12 {
		sh := shape{
			size:   int64(32 + rng.IntN(300)),
			links:  2 + rng.IntN(6),
			fanout: 8 << rng.IntN(8),
			plain:  200 + rng.IntN(3000),
		}
		it := randomTree(rng, 2)
		m := newStore()
		got := it.own(t, sh, m)
		ds := mdtest.Mock()
		want := it.boxo(t, sh, ds)
		if got.Ref.Name() != want.Cid().String() {
			t.Fatalf("tree %d, shape %+v: other CID than boxo", i, sh)
		}
		if size, _ := want.Size(); got.Total != int64(size) {
			t.Errorf("tree %d: total: got %d, want %d", i, got.Total, size)
		}
		compare(t, boxoGetter{ds}, got.Ref, it)
	}
}

// compare reads r back and compares it with what it was made of.
func compare(t testing.TB, g Getter, r Ref, it item) {
	t.Helper()
	ctx := t.Context()
	e, err := Stat(ctx, g, r)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case it.target != "":
		if e.Kind != Symlink || e.Target != it.target {
			t.Fatalf("got kind %d, target %q; want a symlink to %q", e.Kind, e.Target, it.target)
		}
	case it.folder == nil:
		f, err := OpenFile(ctx, g, r)
		if err != nil {
			t.Fatal(err)
		}
		got, want := make([]byte, it.size), make([]byte, it.size)
		if _, err := f.ReadAt(ctx, got, 0); err != nil && it.size > 0 {
			t.Fatal(err)
		}
		if _, err := it.src.ReadAt(want, 0); err != nil && it.size > 0 {
			t.Fatal(err)
		}
		if f.Size() != it.size || e.Size != it.size || !bytes.Equal(got, want) {
			t.Fatal("other content than written")
		}
	default:
		if e.Kind != Folder {
			t.Fatalf("got kind %d, want a folder", e.Kind)
		}
		d, err := OpenDir(ctx, g, r)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		err = d.Each(ctx, func(e Entry) error {
			kid, ok := it.folder[e.Name]
			if !ok || seen[e.Name] {
				return fmt.Errorf("entry %q twice or never written", e.Name)
			}
			seen[e.Name] = true
			found, err := d.Lookup(ctx, e.Name)
			if err != nil || found != e {
				return fmt.Errorf("lookup %q: got %v, %v", e.Name, found, err)
			}
			if found, err = d.LookupShown(ctx, EscapeName(e.Name)); err != nil || found != e {
				return fmt.Errorf("lookup %q as shown: got %v, %v", e.Name, found, err)
			}
			compare(t, g, e.Ref, kid)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) != len(it.folder) {
			t.Fatalf("got %d entries, want %d", len(seen), len(it.folder))
		}
	}
}

// TestForeignLayouts reads what this package never writes: version 0 with
// dag-pb leaves, and trickle trees, whose nodes mix leaves and trees.
func TestForeignLayouts(t *testing.T) {
	src := formula(7, 100_003)
	for _, raw := range []bool{false, true} {
		for name, layout := range map[string]func(*helpers.DagBuilderHelper) (ipld.Node, error){
			"balanced": balanced.Layout, "trickle": trickle.Layout,
		} {
			t.Run(fmt.Sprint(name, raw), func(t *testing.T) {
				ds := mdtest.Mock()
				params := helpers.DagBuilderParams{Maxlinks: 5, RawLeaves: raw, Dagserv: ds}
				db, err := params.New(chunker.NewSizeSplitter(bytes.NewReader(src), 512))
				if err != nil {
					t.Fatal(err)
				}
				n, err := layout(db)
				if err != nil {
					t.Fatal(err)
				}
				r, err := FromCID(n.Cid())
				if err != nil {
					t.Fatal(err)
				}
				compare(t, boxoGetter{ds}, r, file(src))
			})
		}
	}
}

// TestChunkers reads leaves of uneven sizes.
func TestChunkers(t *testing.T) {
	src := formula(9, 3<<20)
	ds := mdtest.Mock()
	params := helpers.DagBuilderParams{Maxlinks: 174, Dagserv: ds}
	db, err := params.New(chunker.NewRabin(bytes.NewReader(src), 64<<10))
	if err != nil {
		t.Fatal(err)
	}
	n, err := balanced.Layout(db)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := FromCID(n.Cid())
	compare(t, boxoGetter{ds}, r, file(src))
}
