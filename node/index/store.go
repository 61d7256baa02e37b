package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"wanderfs/relay/wire"
)

// Limits bound what strangers can make a Store hold. A zero field means its
// default.
type Limits struct {
	Records    int           // in total; default 500 000
	PerAddress int           // postings under one word; default 20 000
	Pointers   int           // pointers under one address; default 1 000
	PerKey     int           // postings signed by one batch key; default BatchSize
	Life       time.Duration // of postings and pointers; default 73 h
	GroupLife  time.Duration // of group records; default 26 h
	Requests   int           // answered at the same time; default 64
}

func (l Limits) withDefaults() Limits {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&l.Records, 500_000)
	def(&l.PerAddress, 20_000)
	def(&l.Pointers, 1000)
	def(&l.PerKey, BatchSize)
	def(&l.Requests, 64)
	if l.Life <= 0 {
		l.Life = PostingLife + time.Hour
	}
	if l.GroupLife <= 0 {
		l.GroupLife = 26 * time.Hour
	}
	return l
}

// StoreConfig configures a Store. Only Path has no default.
type StoreConfig struct {
	Path    string           // the database file; made if missing
	Network string           // whose signatures count; "" is "main"
	Limits  Limits           // zero fields have defaults
	Sweep   time.Duration    // between removals of what expired; default 5 min
	Now     func() time.Time // default time.Now
	Log     *slog.Logger     // nil is silence
}

// Store is what a super node holds of the index. It answers puts and gets of
// far ends and is safe for concurrent use.
type Store struct {
	cfg    StoreConfig
	limits Limits
	db     atomic.Pointer[database]
	slots  chan struct{}
	total  atomic.Int64
	stop   context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once

	// writing is held by the one writer across its transaction, disk and all:
	// SQLite has one writer anyway, and counts must follow commits in order.
	writing sync.Mutex
	renewed time.Time // when a damaged database was last set aside; guarded by writing
	closed  bool      // guarded by writing

	mu     sync.Mutex
	counts map[slot]int // of records per kind and address; guarded by mu
}

// slot is one kind's list under one address.
type slot struct {
	kind RecordKind
	addr [addrPrefix]byte
}

const (
	addrPrefix = 16      // bytes of an address that key a row
	maxCounts  = 100_000 // lists whose length is remembered; ours
	formatV1   = 1       // PRAGMA user_version of the database
)

// ErrStoreVersion says that the database was written by a newer program.
var ErrStoreVersion = errors.New("index store is of a newer version")

// The schema's text stands in the database file as it is here, so its names are
// too short to be mistaken for a published word:
//
//	k  RecordKind
//	a  first 16 bytes of the address
//	i  recordID
//	s  first 8 bytes of the signing key
//	e  expiry, Unix seconds
//	b  the record itself
const schema = `
CREATE TABLE IF NOT EXISTS r (
	k INTEGER NOT NULL, a BLOB NOT NULL, i BLOB NOT NULL,
	s INTEGER NOT NULL, e INTEGER NOT NULL, b BLOB NOT NULL,
	PRIMARY KEY (k, a, i)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS r_e ON r (e);
CREATE INDEX IF NOT EXISTS r_s ON r (s);
PRAGMA user_version = 1;`

// OpenStore opens or makes the database at cfg.Path and starts the removal of
// expired records. A database of a newer version gives ErrStoreVersion. A
// damaged one is set aside under the name Path + ".damaged", and a new one
// begun: what was in it stands at other super nodes too.
func OpenStore(cfg StoreConfig) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Sweep <= 0 {
		cfg.Sweep = 5 * time.Minute
	}
	s := &Store{cfg: cfg, limits: cfg.Limits.withDefaults(), counts: make(map[slot]int)}
	s.slots = make(chan struct{}, s.limits.Requests)
	d, err := openDatabase(cfg.Path)
	if damaged(err) {
		if err = s.setAside(err); err == nil {
			d, err = openDatabase(cfg.Path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open index store: %w", err)
	}
	s.db.Store(d)
	s.total.Store(d.rows)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.wg.Go(func() { s.sweepLoop(ctx) })
	return s, nil
}

// Close ends the sweeping and closes the database. It may be called twice;
// calls of Answer that are under way fail.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		s.stop()
		s.wg.Wait() // the sweeper uses the database
		s.writing.Lock()
		defer s.writing.Unlock()
		s.closed = true // nobody begins a new database now
		err = s.current().close()
	})
	return err
}

// StoreStats are sums that name nobody.
type StoreStats struct {
	Records int64 // held, expired ones included until they are swept
	Limit   int64
}

// Stats returns how much is held.
func (s *Store) Stats() StoreStats {
	return StoreStats{Records: s.total.Load(), Limit: int64(s.limits.Records)}
}

// load is how full the store is, 255 = full.
func (s *Store) load() byte {
	return byte(min(255, s.total.Load()*255/int64(s.limits.Records)))
}

// Answer answers one put or get. What is malformed gives wire.ErrMalformed;
// records that are refused are told in the answer.
func (s *Store) Answer(ctx context.Context, req []byte) ([]byte, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if len(req) < 2 {
		return nil, wire.ErrMalformed
	}
	switch req[1] {
	case opPut:
		recs, err := parsePut(req)
		if err != nil {
			return nil, err
		}
		copies, err := s.put(ctx, recs)
		if full(err) { // what is held is still told
			return encodeCopies(255, make([]byte, len(recs))), nil
		}
		if err != nil {
			return nil, err
		}
		return encodeCopies(s.load(), copies), nil
	case opGet:
		g, err := parseGet(req)
		if err != nil {
			return nil, err
		}
		a, err := s.get(ctx, g)
		if err != nil {
			return nil, err
		}
		return a.encode(), nil
	}
	return nil, wire.ErrMalformed
}

const countSQL = "SELECT count(*) FROM r WHERE k = ? AND a = ?"

// counted returns the remembered length of a list.
func (s *Store) counted(k slot) (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.counts[k]
	return n, ok
}

// remember notes a list's length. Only the writer calls it, after a commit.
func (s *Store) remember(lengths map[slot]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.counts)+len(lengths) > maxCounts {
		clear(s.counts)
	}
	for k, n := range lengths {
		s.counts[k] = n
	}
}
