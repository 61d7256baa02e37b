package chunk

import (
	"errors"
	"fmt"
)

// What a reader refuses. Blocks come from strangers: each of these bounds what
// one block, one file or one folder can make a reader spend.
const (
	maxLinks    = 1 << 16 // links in one block; 2 MiB of sha2-256 links are fewer than 50 000
	maxDepth    = 32      // levels of a file; ours has 3 for 1 PiB
	maxFile     = 1 << 48 // bytes of one file (256 TiB); one child may be linked many times
	maxEntries  = 1 << 24 // entries of one sharded folder
	maxTarget   = 4095    // bytes of a symlink's target; PATH_MAX less one
	maxFanout   = 1024    // children of a shard; UnixFS specification
	minFanout   = 8       // as other writers demand: a power of two and a multiple of 8
	maxLeaves   = 4096    // refs that one call of Leaves returns
	treeDepth   = 64      // folders inside each other that ImportTree enters
	nodeCache   = 8 << 20 // bytes of decoded inner nodes that one File or Dir keeps
	smallLeaf   = 4 << 10 // bytes of a leaf that is kept whole with the nodes
	shardsAhead = 4       // shards fetched at once on each level of a listing
)

// Errors of reading.
var (
	// ErrNotFile says that the Ref names a folder or a symlink.
	ErrNotFile = errors.New("not a file")
	// ErrNotDir says that the Ref names no folder.
	ErrNotDir = errors.New("not a folder")
	// ErrNotFound says that a folder has no entry of this name.
	ErrNotFound = errors.New("no such entry")
	// ErrHostile says that blocks match their hashes, but make no valid content
	// or exceed a limit. Another source would give the same: do not retry.
	ErrHostile = errors.New("invalid content")
)

func hostile(why string) error { return fmt.Errorf("%w: %s", ErrHostile, why) }
