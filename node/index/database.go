package index

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// database is an open file of records.
type database struct {
	w, r *sql.DB // w has one connection; r several, read-only in use
	sql  statements
	rows int64 // when it was opened
}

// renewEvery is how often a damaged database is set aside at most while the
// store runs: where the disk is broken a new one does not help. Ours.
const renewEvery = time.Hour

// errForeign says that a file is a database, but not one of a Store.
var errForeign = errors.New("not an index store")

func openDatabase(path string) (d *database, err error) {
	// The owner's alone, wherever it is put: SQLite makes its other files like it.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(f.Chmod(0o600), f.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("make database: %w", err)
	}
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String() +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=temp_store(MEMORY)"
	d = new(database)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.w, err = sql.Open("sqlite", dsn+"&_txlock=immediate"); err != nil {
		return d, err
	}
	d.w.SetMaxOpenConns(1)
	if d.r, err = sql.Open("sqlite", dsn+"&_pragma=query_only(1)"); err != nil {
		return d, err
	}
	d.r.SetMaxOpenConns(4)
	d.r.SetMaxIdleConns(4)
	return d, d.prepare()
}

func (d *database) prepare() error {
	var version int
	if err := d.w.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > formatV1 {
		return ErrStoreVersion
	}
	if _, err := d.w.Exec(schema); err != nil {
		return foreign(err)
	}
	if err := d.w.QueryRow("SELECT count(*) FROM r").Scan(&d.rows); err != nil {
		return foreign(err)
	}
	return foreign(d.sql.prepare(d.w))
}

// foreign turns SQLite's general error, which our own statements give only
// where the tables are not ours, into errForeign.
func foreign(err error) error {
	if code(err) == sqlite3.SQLITE_ERROR {
		return fmt.Errorf("%w: %w", errForeign, err)
	}
	return err
}

func (d *database) close() error {
	err := d.sql.close()
	for _, db := range []*sql.DB{d.r, d.w} {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	return err
}

// code is the primary result code of SQLite, 0 if err is none of its.
func code(err error) int {
	if e := (*sqlite.Error)(nil); errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// damaged reports whether err says that the file is not what was written.
func damaged(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return true
	}
	return errors.Is(err, errForeign)
}

// full reports whether err says that there is no room on the disk.
func full(err error) bool { return code(err) == sqlite3.SQLITE_FULL }

func (s *Store) current() *database { return s.db.Load() }

// failed looks at what went wrong with d. When d is damaged it begins a new
// database, so that a later request succeeds. It returns err.
func (s *Store) failed(d *database, err error) error {
	if !damaged(err) {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed || s.current() != d || time.Since(s.renewed) < renewEvery {
		return err
	}
	s.renewed = time.Now()
	_ = d.close() // first: SQLite removes its files by their names
	if aside := s.setAside(err); aside != nil {
		s.cfg.Log.Error("damaged index store not set aside", "err", aside)
		return err
	}
	fresh, ferr := openDatabase(s.cfg.Path)
	if ferr != nil {
		s.cfg.Log.Error("no new index store", "err", ferr)
		return err
	}
	s.db.Store(fresh)
	s.total.Store(fresh.rows)
	s.mu.Lock()
	clear(s.counts)
	s.mu.Unlock()
	return err
}

// setAside renames the database's files and says so. An older damaged one is
// replaced, so that they do not fill the disk.
func (s *Store) setAside(why error) error {
	s.cfg.Log.Error("index store is damaged: it is set aside with the ending .damaged, and a new one begun", "err", why)
	for _, end := range []string{"-wal", "-shm", ""} {
		old := s.cfg.Path + ".damaged" + end
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Rename(s.cfg.Path+end, old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
