package fetch

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

var (
	// ErrNotFound says that no source was found in the time for looking up, or
	// that each one said that it does not have it.
	// A later try may find one.
	ErrNotFound = errors.New("no source found")
	// ErrStalled says that sources were found, but nothing came for too long,
	// or that all of them lied.
	// A later try may work; the text says why it stalled.
	ErrStalled = errors.New("no progress")
	// ErrNoWay says that this node's own first relays do not answer: a Route's
	// Dial wraps it, since it says nothing of the route, which is tried again
	// soon.
	ErrNoWay = errors.New("the relays that this node begins its paths with do not answer")
	// ErrClosed says that the Fetcher was closed.
	ErrClosed = errors.New("fetcher is closed")
)

// Route is one way to one session. Dial builds it: path, join and end-to-end
// handshake. Where it draws relays it asks Draw. first, at most MaxFirst bytes, rides in the handshake. It
// may be called again, for another path, also while connections of it are open.
// It returns soon after ctx ends. The connection's Close must unblock its Read
// and Write, and may be called twice.
type Route interface {
	Session() wire.SessionNumber
	Gateway() wire.NodeID // by which it leads there: how dials went is remembered for it
	Dial(ctx context.Context, first []byte) (io.ReadWriteCloser, error)
}

// Finder finds the sessions that share a root: several, with several gateways
// each, the best first. It is asked again when routes fail. No routes and no
// error means that nobody is known.
type Finder interface {
	Find(ctx context.Context, root chunk.Ref) ([]Route, error)
}

// Store keeps verified chunks. Any error of Get and ReadRange is a miss. Put
// keeps no reference to data.
type Store interface {
	Get(r chunk.Ref) ([]byte, error)
	ReadRange(r chunk.Ref, p []byte, off int64) (int, error)
	Put(r chunk.Ref, data []byte) error
	Has(r chunk.Ref) bool
}

// Config says what a Fetcher works with. Finder is needed; the zero value of
// all else is its default.
type Config struct {
	Finder Finder
	Store  Store         // nil keeps nothing but the last few chunks
	Routes int           // at once, a task; default 4
	Window int64         // bytes asked for at once, a route; default 12 MiB
	Ahead  int64         // bytes fetched ahead of what was asked; default 64 MiB
	Next   int           // files of a folder fetched ahead of who reads them in order; default 32, negative none
	Lookup time.Duration // until ErrNotFound without any source; default 10 s
	Stall  time.Duration // until ErrStalled without progress; default 30 s
	Frozen time.Duration // a route that is silent for so long is bypassed; default 1.5 s
	Idle   time.Duration // a task that wants nothing closes its routes; default 60 s
	Log    *slog.Logger  // nil is silence

	Rebuilds    int           // relays that failures may make all tasks draw in RebuildSpan; default 4
	RebuildSpan time.Duration // default 10 min

	unwatched bool // for tests: paths that fail are not noticed
}

// Fetcher reads content by tasks. Its methods may be called from many
// goroutines at once.
type Fetcher struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // the run goroutine of each task
	pool   pools
	verify chan struct{} // one for each chunk being verified and stored

	siblings siblings
	hash     func(chunk.Ref, []byte) error // chunk.Ref.Verify; tests count it

	mu     sync.Mutex
	tasks  map[chunk.Ref]*Task // by root; guarded by mu
	errs   map[chunk.Ref]string
	draws  []time.Time // of late, the oldest first; guarded by mu
	closed bool
}

// maxErrs bounds how many failures State remembers.
const maxErrs = 256

// New returns a Fetcher that uses no network until something is read.
func New(cfg Config) *Fetcher {
	cfg.Routes = orDefault(cfg.Routes, 4)
	cfg.Window = orDefault(cfg.Window, 12<<20)
	cfg.Ahead = orDefault(cfg.Ahead, 64<<20)
	if cfg.Next == 0 {
		cfg.Next = 32
	}
	cfg.Lookup = orDefault(cfg.Lookup, 10*time.Second)
	cfg.Stall = orDefault(cfg.Stall, 30*time.Second)
	cfg.Frozen = orDefault(cfg.Frozen, 1500*time.Millisecond)
	cfg.Idle = orDefault(cfg.Idle, time.Minute)
	cfg.Rebuilds = orDefault(cfg.Rebuilds, 4)
	cfg.RebuildSpan = orDefault(cfg.RebuildSpan, 10*time.Minute)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Store == nil {
		cfg.Store = noStore{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Fetcher{
		cfg:    cfg,
		ctx:    ctx,
		cancel: cancel,
		verify: make(chan struct{}, max(2, min(4, runtime.GOMAXPROCS(0)))),
		tasks:  make(map[chunk.Ref]*Task),
		errs:   make(map[chunk.Ref]string),
		hash:   chunk.Ref.Verify,
	}
}

// Close ends all tasks: waiting readers get ErrClosed. It waits for every
// goroutine and may be called twice.
func (f *Fetcher) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
	return nil
}

// Task returns the reading task of root, one for all who read below it. Call
// Release when done.
func (f *Fetcher) Task(root chunk.Ref) *Task {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.tasks[root]; t != nil {
		t.refs++
		return t
	}
	t := newTask(f, root)
	t.refs = 1
	if f.closed {
		t.closed = true
		t.cancel()
		return t
	}
	f.tasks[root] = t
	f.wg.Go(t.run)
	return t
}

// retire removes t if nobody uses it, so that its goroutine may end.
func (f *Fetcher) retire(t *Task) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.refs > 0 && !f.closed {
		return false
	}
	if f.tasks[t.root] == t {
		delete(f.tasks, t.root)
	}
	return true
}

// note remembers why reading r failed, or with "" that it works.
func (f *Fetcher) note(r chunk.Ref, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if why == "" {
		delete(f.errs, r)
		return
	}
	if len(f.errs) >= maxErrs {
		for old := range f.errs {
			delete(f.errs, old)
			break
		}
	}
	f.errs[r] = why
}

// noStore is a Store that has nothing and keeps nothing.
type noStore struct{}

var errNoStore = errors.New("no store")

func (noStore) Get(chunk.Ref) ([]byte, error)                   { return nil, errNoStore }
func (noStore) ReadRange(chunk.Ref, []byte, int64) (int, error) { return 0, errNoStore }
func (noStore) Put(chunk.Ref, []byte) error                     { return errNoStore }
func (noStore) Has(chunk.Ref) bool                              { return false }
