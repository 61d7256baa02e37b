package chunk

import "context"

// Size is the length in bytes of the chunks that files are split into
// (profile unixfs-v1-2025).
const Size = 1 << 20

// MaxBlock is the longest block, in bytes, that is read from others.
const MaxBlock = 2 << 20

// Kind says what an Entry is.
type Kind uint8

// The kinds of content.
const (
	Unknown Kind = iota // a child that nobody has looked at yet
	File
	Folder
	Symlink
)

// Entry is one thing in a folder, or a root. Entries of raw leaves and of
// folders made here are complete; for a child with links of its own Kind is
// Unknown and Size 0 until Stat has seen its block.
type Entry struct {
	Name   string // bytes from the DAG: hostile input, never a local path
	Ref    Ref
	Kind   Kind
	Size   int64  // bytes of content; 0 for folders
	Total  int64  // bytes of all blocks below, as the DAG claims (Tsize)
	Target string // of a Symlink
}

// Result is one row that a search found. Name, Size and Kind are claims of
// whoever published it until the root block has been read.
type Result struct {
	Name    string
	Ref     Ref
	Kind    Kind
	Size    int64
	Sources int // groups of shares that published it, as their postings say
}

// Getter gives verified blocks. The slice is shared: callers must not write
// to it. Get is called from many goroutines at once.
type Getter interface {
	Get(ctx context.Context, r Ref) ([]byte, error)
}

// RangeGetter is a Getter that can give a part of a verified block without
// the rest. ReadRange copies bytes of the block from off into p and returns
// how many; less than len(p) only at the block's end.
type RangeGetter interface {
	Getter
	ReadRange(ctx context.Context, r Ref, p []byte, off int64) (int, error)
}
