package fs

import (
	"context"

	"wanderfs/cache/chunk"
)

// Library is where content and search results come from. All methods are
// called from many goroutines at once. Those with a context may wait for the
// network and must return soon after it is done; all others answer from
// memory. In a pair of Refs root names what the user opened (the source of
// routes) and r the file or folder below it.
type Library interface {
	// Stat returns what r is. Kind and Size are true: its block was read.
	Stat(ctx context.Context, root, r chunk.Ref) (chunk.Entry, error)
	// Open opens the file r for reading.
	Open(ctx context.Context, root, r chunk.Ref) (File, error)
	// Dir opens the folder r; ErrNotFolder if it is none.
	Dir(ctx context.Context, root, r chunk.Ref) (Dir, error)

	// Search asks the network. ctx bounds only the wait for the first
	// results; what is returned lives until its Close. A query that cannot
	// be asked gives ErrBadQuery.
	Search(ctx context.Context, query string) (Results, error)
	// Keep makes a query standing, Drop ends it, Kept lists them.
	Keep(query string) error
	Drop(query string) error
	Kept() []string

	// State tells what is known locally about r; Pin keeps it in the cache.
	State(r chunk.Ref) State
	Pin(r chunk.Ref, on bool) error

	// Space is what statfs tells, in bytes.
	Space() Space

	// StatusFiles lists the names in status/, Status gives one's text.
	StatusFiles() []string
	Status(name string) string
}

// Pinned is implemented by a Library that can list what is pinned, for
// the listing of hash/.
type Pinned interface {
	Pinned() []chunk.Ref
}

// File is one open file of a Library. ReadAt may be called concurrently and
// returns io.EOF at the end. A short read needs an error.
type File interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	Size() int64
	Close() error
}

// Progress is implemented by a File that knows how many bytes of it have
// arrived, verified or not. A waiting read then fails only when the counter
// has not moved for Config.ReadTimeout.
type Progress interface {
	Progress() int64
}

// Local is implemented by a File that knows what of it is held here. ReadLocal
// is ReadAt if that needs no waiting for the network, and reports false, at
// once, if it does or fails. At the end it reads fewer bytes.
type Local interface {
	ReadLocal(p []byte, off int64) (n int, ok bool)
}

// Dir is one open folder of a Library. Names are raw, hostile bytes.
// Lookup gives ErrNotFound for an unknown name. Neither needs closing.
type Dir interface {
	Lookup(ctx context.Context, name string) (chunk.Entry, error)
	Each(ctx context.Context, fn func(chunk.Entry) error) error
}

// Results are the live results of one query. Changed is signalled after List
// has changed. Err tells why a search found nothing, if there is a reason.
type Results interface {
	List() []chunk.Result
	Changed() <-chan struct{}
	Err() error
	Close()
}

// State is what a Library knows locally about some content.
type State struct {
	Cached  int    // percent held locally, 0 to 100
	Sources int    // sources seen of late
	State   string // a word, such as "cached" or "loading"; "" if unknown
	Err     string // why the last read failed; "" if it did not
	Mime    string // media type; "" if unknown
	Pinned  bool
}

// Space is the size of the drive, in bytes.
type Space struct {
	Total, Free uint64
}

// Share is the local directory behind shared/. Names are slash paths below
// Dir. It is told of every change that is made through the drive:
//
//	BeginWrite  name is about to change: withdraw it at once
//	Wrote       bytes of name have changed
//	Closed      the last writer of name is gone, or name is a new folder or symlink
//	Renamed     old (with all below it) is now new; what new was is gone
//	Removed     name is gone
type Share interface {
	Dir() string
	BeginWrite(name string)
	Wrote(name string)
	Closed(name string)
	Renamed(old, new string)
	Removed(name string)
	State(name string) ShareState
}

// ShareState is how far the publication of a shared file or folder is.
type ShareState struct {
	Ref   chunk.Ref // zero until computed
	Phase string    // hashing, waiting, published, error, kept
	Err   string
}
