package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/singleflight"

	"wanderfs/cache/chunk"
)

var (
	// ErrMiss: the cache does not hold it. Fetch it elsewhere.
	ErrMiss = errors.New("not in the cache")
	// ErrFull: there is no room, on the disk or within the limit, and nothing
	// more may be evicted. Go on without storing; a later try may work.
	ErrFull = errors.New("cache is full")
	// ErrLocked: another process has the directory open.
	ErrLocked = errors.New("cache is in use by another process")
	// ErrClosed: the cache was closed.
	ErrClosed = errors.New("cache is closed")
)

const (
	defaultLimit   = 10 << 30  // bytes
	defaultMinFree = 512 << 20 // bytes, or a twentieth of the disk if that is less
	// touchEvery is how long reads of one chunk count as one use: a reader
	// takes a chunk in many small reads, and that makes it no more wanted.
	touchEvery = time.Minute
)

// Config says where the cache lies and how large it grows. Only Dir is needed.
type Config struct {
	Dir     string       // made if missing, mode 0700
	Limit   int64        // bytes on disk of all chunks; 0 is 10 GiB
	MinFree int64        // bytes to leave free on the disk; 0 is 512 MiB or 5 % of it, whichever is less; negative: none
	Memory  bool         // keep the key in memory only: the next start finds an empty cache
	KeyFile string       // default Dir/key
	Log     *slog.Logger // nil is silence
}

// Stats are sums that tell nothing about any one chunk.
type Stats struct {
	Bytes, Limit, Chunks int64  // on disk, each chunk rounded up to 4 KiB
	Pinned               int64  // bytes of Bytes that are pinned
	Hits, Misses         uint64 // reads since opening
	Evicted, Damaged     uint64 // chunks dropped since opening: for room; because their file was not right
}

// Cache is the store. All methods may be called concurrently.
type Cache struct {
	dir   string
	log   *slog.Logger
	disk  disk
	keys  *keys
	lock  *flock.Flock
	first singleflight.Group // first reads, by name
	temps atomic.Uint64      // numbers files in tmp
	bufs  sync.Pool          // *[]byte of chunk.MaxBlock

	// gate is held for reading by every call, so that Close can wait for them.
	gate   sync.RWMutex
	closed bool // guarded by gate

	// names serialise what happens to one file's name with what the index
	// says of it: renaming into place with adding, removing from the index
	// with unlinking. Taken before mu, by the first byte of the name.
	names [256]sync.Mutex

	quota quota
	pins  pinLog

	hits, misses, evicted, damaged atomic.Uint64
}

// Open opens or makes the cache in cfg.Dir. ErrLocked says that another
// process, or another Cache, has it open. Chunks that were written under
// another key are removed.
func Open(cfg Config) (*Cache, error) { return open(cfg, osDisk{}) }

func open(cfg Config, d disk) (_ *Cache, err error) {
	if cfg.Dir == "" {
		return nil, errors.New("open cache: no directory given")
	}
	if cfg.Limit <= 0 {
		cfg.Limit = defaultLimit
	}
	c := &Cache{dir: cfg.Dir, log: cfg.Log, disk: d}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.bufs.New = func() any { b := make([]byte, chunk.MaxBlock); return &b }
	defer func() {
		if err != nil {
			c.release()
			err = fmt.Errorf("open cache: %w", err)
		}
	}()
	if err := c.claim(); err != nil {
		return nil, err
	}
	if err := c.unlockKeys(cfg); err != nil {
		return nil, err
	}
	if err := c.makeDirs(); err != nil {
		return nil, err
	}
	if err := c.quota.init(cfg.Limit, c.reserveOf(cfg.MinFree)); err != nil {
		return nil, err
	}
	if err := c.pins.load(c); err != nil {
		return nil, err
	}
	if err := c.scan(); err != nil {
		return nil, err
	}
	c.drop(c.quota.overflow())
	s := c.quota.stats()
	c.log.Debug("cache opened", "chunks", s.Chunks, "bytes", s.Bytes)
	return c, nil
}

// reserveOf returns how many bytes to leave free.
func (c *Cache) reserveOf(minFree int64) int64 {
	if minFree != 0 {
		return max(minFree, 0)
	}
	_, total, err := c.disk.free(c.dir)
	if err != nil {
		return defaultMinFree
	}
	return min(defaultMinFree, total/20)
}

// enter begins a call; leave must follow unless it fails.
func (c *Cache) enter() error {
	c.gate.RLock()
	if c.closed {
		c.gate.RUnlock()
		return ErrClosed
	}
	return nil
}

func (c *Cache) leave() { c.gate.RUnlock() }

// Stats returns what the cache holds. It takes no disk access.
func (c *Cache) Stats() Stats {
	s := c.quota.stats()
	s.Hits, s.Misses = c.hits.Load(), c.misses.Load()
	s.Evicted, s.Damaged = c.evicted.Load(), c.damaged.Load()
	return s
}

// Close waits for running calls and gives the directory free. Later calls
// fail with ErrClosed, except a second Close, which does nothing.
func (c *Cache) Close() error {
	c.gate.Lock() // no call is running now
	defer c.gate.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.release()
}

// release undoes what open did; parts may be missing.
func (c *Cache) release() error {
	c.quota.close()
	var err error
	if e := c.pins.close(); e != nil {
		err = fmt.Errorf("close pins: %w", e)
	}
	if c.lock != nil { // last: from here on another process may open it
		if e := c.lock.Close(); e != nil && err == nil {
			err = fmt.Errorf("unlock cache: %w", e)
		}
	}
	return err
}
