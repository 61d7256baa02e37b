package fs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"sync"
	"time"

	"bazil.org/fuse"

	"wanderfs/cache/chunk"
)

const (
	forever   = 365 * 24 * time.Hour // validity of what its hash names
	brief     = time.Second          // validity of what changes
	entryLife = 5 * time.Second      // validity of a name among search results
	blockSize = 128 << 10            // st_blksize: the longest FUSE read
)

// epoch is the time of all content: it has none of its own, a fixed one lets
// rsync see that nothing changed, and zip stores none before 1980.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// tree is what all nodes of one mount share.
type tree struct {
	cfg      Config
	lib      Library
	uid, gid uint32
	start    time.Time
	server   *server // nil in tests that call nodes directly
	root     *root
	hash     *hashDir

	ctx    context.Context // done when the drive is closed
	cancel context.CancelFunc
	wg     sync.WaitGroup // goroutines of search and hints

	mu    sync.Mutex
	files map[chunk.Ref]*file // guarded by mu; one node a file, whatever its name
}

func newTree(cfg Config) (*tree, error) {
	t := &tree{
		cfg: cfg, lib: cfg.Library,
		uid: uint32(os.Getuid()), gid: uint32(os.Getgid()),
		start: time.Now(),
		files: make(map[chunk.Ref]*file),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.hash = newHashDir(t)
	t.root = &root{t: t, readme: &text{t: t, body: cfg.Readme}, search: newSearchDir(t), status: &statusDir{t: t}}
	if cfg.Share != nil {
		b, err := openBacking(cfg.Share.Dir())
		if err != nil {
			return nil, err
		}
		t.root.shared = newShared(t, b, cfg.Share)
	}
	return t, nil
}

// close ends all waits and goroutines of the tree.
func (t *tree) close() {
	t.cancel()
	t.root.search.close()
	t.wg.Wait()
}

// release frees what the served nodes may still have used.
func (t *tree) release() {
	if t.root.shared != nil {
		t.root.shared.fs.b.close()
	}
}

// wait returns a context that ends with ctx, after d, or with the drive.
func (t *tree) wait(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	c, cancel := context.WithTimeout(ctx, d)
	stop := context.AfterFunc(t.ctx, cancel)
	return c, func() { stop(); cancel() }
}

// stat waits for the network, no longer than a look-up may.
func (t *tree) stat(ctx context.Context, root, r chunk.Ref) (chunk.Entry, error) {
	c, cancel := t.wait(ctx, t.cfg.LookupTimeout)
	defer cancel()
	e, err := t.lib.Stat(c, root, r)
	if err != nil {
		return e, errno(ctx, err)
	}
	return e, nil
}

// owned fills in what all nodes outside shared have in common.
func (t *tree) owned(a *fuse.Attr, mode os.FileMode) {
	a.Mode = mode
	a.Uid, a.Gid = t.uid, t.gid
	a.Nlink = 1
	a.BlockSize = blockSize
	a.Atime, a.Mtime, a.Ctime = epoch, epoch, epoch
	if mode.IsDir() {
		a.Nlink = 2
	}
}

func setSize(a *fuse.Attr, size int64) {
	a.Size = uint64(max(size, 0))
	a.Blocks = (a.Size + 511) / 512
}

// inodeOf makes an inode number. The top bit is set, which keeps them apart
// from those of the backing directory.
func inodeOf(kind string, parent uint64, id []byte) uint64 {
	h := sha256.New()
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], parent)
	_, _ = h.Write([]byte(kind))
	_, _ = h.Write(p[:])
	_, _ = h.Write(id)
	return binary.BigEndian.Uint64(h.Sum(nil)) | 1<<63
}

func fileInode(r chunk.Ref) uint64 { return inodeOf("file", 0, r.CID().Bytes()) }

func placeInode(parent uint64, name string) uint64 {
	return inodeOf("place", parent, []byte(name))
}

// The inode numbers of the fixed nodes.
const (
	inodeRoot = 1 + iota
	inodeReadme
	inodeHash
	inodeSearch
	inodeShared
	inodeStatus
)
