package share

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"wanderfs/cache/chunk"
)

const (
	maxGroups    = 8                      // DESIGN: a session each
	racyWindow   = 2 * time.Second        // coarsest timestamps of a file system (FAT)
	gather       = 100 * time.Millisecond // ours: events are looked at together
	batch        = 512                    // ours: results committed at once
	linger       = 10 * time.Millisecond  // ours: more results are waited for
	newsEvery    = 100 * time.Millisecond // ours: between signals of Changed
	maxErrors    = 64                     // ours: errors told by Stats
	defaultLRU   = 32 << 20
	limitedAfter = 30 * time.Second // rescan where folders cannot be watched
)

// Errors of this package.
var (
	// ErrNotShared is the only answer for a block that cannot be given: it is
	// not held, was withdrawn, belongs to another group or does not match.
	ErrNotShared = errors.New("not shared")
	// ErrNewer says that a later version of the program wrote the catalogue.
	ErrNewer = errors.New("catalogue was written by a newer version")
	// ErrNotLinkable says that a path must not be published in place; the
	// text that wraps it says why.
	ErrNotLinkable = errors.New("cannot be shared in place")
)

// Config says what is shared and how. The zero values of all but Dir and DB
// are usable.
type Config struct {
	Dir      string        // the shared directory; made (mode 0700) if missing
	DB       string        // the catalogue's file; its directory is made (0700)
	Settle   time.Duration // quiet time before a file is hashed; default 2 s
	Rescan   time.Duration // between looks at everything; default 5 min
	Groups   int           // of shares; default and maximum 8
	Verified int64         // bytes of verified blocks held in memory; default 32 MiB
	Private  []string      // what Link refuses to publish, or to publish around: the data directory, the mountpoint. DB's directory always is
	Log      *slog.Logger  // nil is silence

	racy time.Duration // coarseness of timestamps; tests change it
}

// Share is the shared directory, watched. All methods are safe for concurrent
// use.
type Share struct {
	cfg     Config
	dir     string
	private []string
	log     *slog.Logger
	cat     *catalogue
	watch   *watcher
	recent  *recent
	flight  singleflight.Group
	changed chan struct{} // capacity 1, never closed
	kick    chan struct{} // capacity 1, wakes the keeper
	jobs    chan *job     // closed by the keeper
	results chan result   // never closed
	cancel  context.CancelFunc
	ctx     context.Context
	wg      sync.WaitGroup
	close   func() error

	settled    time.Time     // the keeper's: end of the last settleFolders
	settleTook time.Duration // the keeper's

	reads   sync.WaitGroup // of Block
	linking sync.Mutex     // held by Link and Unlink

	mu       sync.Mutex
	sources  []*source               // guarded by mu; [0] is the shared directory
	byID     map[int64]*node         // guarded by mu
	byInode  map[inode]*node         // guarded by mu; folders only
	nextID   int64                   // guarded by mu
	changes  []change                // guarded by mu; for the catalogue, in order
	looks    map[look]struct{}       // guarded by mu; places to look at soon
	news     bool                    // guarded by mu; Changed is to be signalled
	told     time.Time               // guarded by mu; when it was
	gathered time.Time               // guarded by mu; when looks are done
	pruned   time.Time               // guarded by mu
	closed   bool                    // guarded by mu
	full     bool                    // guarded by mu; look at everything
	queue    dueQueue                // guarded by mu
	opened   map[string]struct{}     // guarded by mu; open for writing on the drive
	until    map[chunk.Ref]time.Time // guarded by mu; what was published
	items    []Item                  // guarded by mu; nil when stale
	notes    map[string]string       // guarded by mu; errors of the whole, by kind
	pass     uint64                  // guarded by mu
	busy     int                     // guarded by mu; jobs given and not answered
}

type inode struct{ dev, ino uint64 }

// look is a place that may have changed.
type look struct {
	src  *source
	name string // below src.dir, as on disk
}

// Open starts sharing. It returns after the catalogue was compared with the
// shared directory, so that what did not change is there at once; the rest is
// hashed in the background. ctx bounds Open only.
func Open(ctx context.Context, cfg Config) (*Share, error) {
	if cfg.Settle <= 0 {
		cfg.Settle = 2 * time.Second
	}
	if cfg.Rescan <= 0 {
		cfg.Rescan = 5 * time.Minute
	}
	if cfg.Groups <= 0 || cfg.Groups > maxGroups {
		cfg.Groups = maxGroups
	}
	if cfg.Verified <= 0 {
		cfg.Verified = defaultLRU
	}
	if cfg.racy <= 0 {
		cfg.racy = racyWindow
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make shared directory: %w", err)
	}
	dir, err := realDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open shared directory: %w", err)
	}
	cat, damaged, err := openCatalogue(ctx, cfg.DB)
	if err != nil {
		return nil, err
	}
	s := &Share{
		cfg: cfg, dir: dir, log: cfg.Log, cat: cat,
		recent:  newRecent(cfg.Verified),
		changed: make(chan struct{}, 1),
		kick:    make(chan struct{}, 1),
		jobs:    make(chan *job, inflight),
		results: make(chan result, inflight),
		byID:    map[int64]*node{},
		byInode: map[inode]*node{},
		nextID:  1,
		looks:   map[look]struct{}{},
		opened:  map[string]struct{}{},
		until:   map[chunk.Ref]time.Time{},
		notes:   map[string]string{},
	}
	private := append(slices.Clone(cfg.Private), filepath.Dir(cfg.DB))
	if real, err := realDir(filepath.Dir(cfg.DB)); err == nil {
		private = append(private, real)
	}
	for _, p := range private {
		if abs, err := filepath.Abs(p); err == nil {
			s.private = append(s.private, abs)
		}
	}
	if damaged {
		s.notes["catalogue"] = "the catalogue was damaged and is made anew; what was shared in place must be linked again"
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.close = sync.OnceValue(s.shut)
	if err := s.load(ctx); err != nil {
		s.cancel()
		_ = cat.close()
		return nil, err
	}
	s.watch = newWatcher(s)
	s.scanSource(s.sources[0])
	s.settleFolders()
	s.full = true // links are looked at in the background: they may be far
	for range runtime.GOMAXPROCS(0) {
		s.wg.Go(func() { s.hashAll() })
	}
	s.wg.Go(s.keep)
	return s, nil
}

// Close stops hashing, keeps what is done, and releases the catalogue. It may
// be called more than once.
func (s *Share) Close() error { return s.close() }

func (s *Share) shut() error {
	s.mu.Lock()
	s.closed = true // no more blocks
	s.mu.Unlock()
	s.cancel()           // no new work; hashing stops in the middle of a file
	s.wg.Wait()          // the keeper writes what it knows
	s.watch.close()      // nobody reads its events any more
	s.reads.Wait()       // they read the catalogue
	return s.cat.close() // last: all above use it
}

// Dir returns the shared directory, absolute and without symlinks.
func (s *Share) Dir() string { return s.dir }

// Changed is signalled after Items changed. Several changes may give one
// signal. The channel is never closed.
func (s *Share) Changed() <-chan struct{} { return s.changed }

// changedLocked makes Items stale and tells so, at most every newsEvery: who
// hears it looks at all items.
func (s *Share) changedLocked() {
	s.items = nil
	s.news = true
	s.tellLocked()
}

// tellLocked gives the signal if there are news and it is time. The keeper
// calls it again.
func (s *Share) tellLocked() {
	now := time.Now()
	if !s.news || now.Sub(s.told) < newsEvery {
		return
	}
	s.news, s.told = false, now
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Share) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func realDir(p string) (string, error) {
	p, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	if p, err = filepath.EvalSymlinks(p); err != nil {
		return "", err
	}
	fi, err := os.Stat(p)
	if err != nil {
		return "", err
	}
	if !fi.IsDir() {
		return "", fmt.Errorf("not a directory")
	}
	return p, nil
}
