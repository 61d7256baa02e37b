package share

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the database/sql driver

	"wanderfs/cache/chunk"
)

// format is the catalogue's version, kept in SQLite's user_version.
const format = 1

// keyLen is how many bytes of a digest find a block. A collision costs one
// wasted read: the block is hashed before it is given.
const keyLen = 16

// A folder's row has an id that its children name as parent, so that a rename
// is one row. Owners of blocks are items. A leaf's block is at idx*chunk.Size
// of its owner; inner nodes and folder nodes are kept whole.
const schema = `
CREATE TABLE IF NOT EXISTS items(id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS leaves(key BLOB NOT NULL, owner INTEGER NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY(key, owner, idx)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS leaves_owner ON leaves(owner);
CREATE TABLE IF NOT EXISTS nodes(key BLOB NOT NULL, owner INTEGER NOT NULL, block BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS nodes_key ON nodes(key);
CREATE INDEX IF NOT EXISTS nodes_owner ON nodes(owner);
CREATE TABLE IF NOT EXISTS links(id INTEGER PRIMARY KEY, dir BLOB NOT NULL, base BLOB NOT NULL, name BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS groups(i INTEGER PRIMARY KEY, state BLOB NOT NULL);
`

// catalogue is the database. write has one connection and is used by the
// keeper and for links and groups; read has a few.
type catalogue struct{ write, read *sql.DB }

// blocks are what hashing one item gives.
type blocks struct {
	leaves [][keyLen]byte // in order
	keys   [][keyLen]byte // of nodes
	nodes  [][]byte
}

func key(r chunk.Ref) (k [keyLen]byte, ok bool) {
	h := r.Multihash()
	if len(h) != 34 { // an identity hash carries its block itself
		return k, false
	}
	copy(k[:], h[2:])
	return k, true
}

// openCatalogue opens or makes the database at file. A damaged one is put
// aside as file.damaged; damaged tells so. One of a later format is refused.
func openCatalogue(ctx context.Context, file string) (c *catalogue, damaged bool, err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, false, fmt.Errorf("make catalogue's directory: %w", err)
	}
	c, err = tryCatalogue(ctx, file)
	if err == nil || errors.Is(err, ErrNewer) || ctx.Err() != nil || !looksDamaged(err) {
		return c, false, err
	}
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(file+end, file+".damaged"+end); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, false, fmt.Errorf("put damaged catalogue aside: %w", err)
		}
	}
	c, err = tryCatalogue(ctx, file)
	return c, true, err
}

func looksDamaged(err error) bool {
	s := err.Error() // the driver has no sentinels; codes SQLITE_CORRUPT, SQLITE_NOTADB
	return strings.Contains(s, "(11)") || strings.Contains(s, "(26)") || strings.Contains(s, "malformed")
}

func tryCatalogue(ctx context.Context, file string) (*catalogue, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open catalogue: %w", err)
	}
	err = errors.Join(f.Chmod(0o600), f.Close())
	if err != nil {
		return nil, fmt.Errorf("open catalogue: %w", err)
	}
	// NORMAL in WAL mode loses at most the last commits when the power goes,
	// never consistency; a kill of the process loses nothing.
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: url.Values{"_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)", "temp_store(MEMORY)",
		"cache_size(-8192)", "journal_size_limit(67108864)",
	}}.Encode()}).String()
	c := new(catalogue)
	if c.write, err = sql.Open("sqlite", dsn); err != nil {
		return nil, fmt.Errorf("open catalogue: %w", err)
	}
	c.write.SetMaxOpenConns(1)
	if c.read, err = sql.Open("sqlite", dsn); err != nil {
		_ = c.write.Close()
		return nil, fmt.Errorf("open catalogue: %w", err)
	}
	c.read.SetMaxOpenConns(4)
	c.read.SetMaxIdleConns(4)
	if err := c.prepare(ctx); err != nil {
		_ = c.close()
		return nil, err
	}
	return c, nil
}

func (c *catalogue) prepare(ctx context.Context) error {
	var v int
	if err := c.write.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v); err != nil {
		return fmt.Errorf("open catalogue: %w", err)
	}
	if v > format {
		return ErrNewer
	}
	if _, err := c.write.ExecContext(ctx, schema+fmt.Sprintf("PRAGMA user_version = %d;", format)); err != nil {
		return fmt.Errorf("prepare catalogue: %w", err)
	}
	return nil
}

func (c *catalogue) close() error { return errors.Join(c.read.Close(), c.write.Close()) }

// row is one item as it lies in the catalogue.
type row struct {
	id, parent int64
	name       string
	kind       chunk.Kind
	data       []byte
}

func (c *catalogue) rows(ctx context.Context) ([]row, error) {
	rs, err := c.write.QueryContext(ctx, "SELECT id, parent, name, kind, data FROM items")
	if err != nil {
		return nil, fmt.Errorf("read catalogue: %w", err)
	}
	defer func() { _ = rs.Close() }()
	var out []row
	for rs.Next() {
		var r row
		var name []byte
		var kind int64
		if err := rs.Scan(&r.id, &r.parent, &name, &kind, &r.data); err != nil {
			return nil, fmt.Errorf("read catalogue: %w", err)
		}
		r.name, r.kind = string(name), chunk.Kind(kind)
		out = append(out, r)
	}
	if err := rs.Err(); err != nil {
		return nil, fmt.Errorf("read catalogue: %w", err)
	}
	return out, nil
}

// change is one step for the catalogue: a row put (data set) or an item
// forgotten with its blocks. blocks, if set, replace those of the item.
type change struct {
	row
	blocks *blocks
}

// apply does all changes in order, or none.
func (c *catalogue) apply(ctx context.Context, changes []change) (err error) {
	if len(changes) == 0 {
		return nil
	}
	tx, err := c.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("write catalogue: %w", err)
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback()
		}
	}()
	var stmts [6]*sql.Stmt
	for i, q := range []string{
		"INSERT OR REPLACE INTO items(id, parent, name, kind, data) VALUES(?,?,?,?,?)",
		"DELETE FROM items WHERE id=?",
		"DELETE FROM leaves WHERE owner=?",
		"DELETE FROM nodes WHERE owner=?",
		"INSERT OR IGNORE INTO leaves(key, owner, idx) VALUES(?,?,?)",
		"INSERT INTO nodes(key, owner, block) VALUES(?,?,?)",
	} {
		if stmts[i], err = tx.PrepareContext(ctx, q); err != nil {
			return fmt.Errorf("write catalogue: %w", err)
		}
		defer func() { _ = stmts[i].Close() }()
	}
	do := func(i int, args ...any) {
		if err == nil {
			_, err = stmts[i].ExecContext(ctx, args...)
		}
	}
	for _, ch := range changes {
		if ch.data == nil {
			do(1, ch.id)
		} else {
			do(0, ch.id, ch.parent, []byte(ch.name), int64(ch.kind), ch.data)
		}
		if ch.data == nil || ch.blocks != nil {
			do(2, ch.id)
			do(3, ch.id)
		}
		if b := ch.blocks; b != nil {
			for i := range b.leaves {
				do(4, b.leaves[i][:], ch.id, i)
			}
			for i := range b.nodes {
				do(5, b.keys[i][:], ch.id, b.nodes[i])
			}
		}
		if err != nil {
			return fmt.Errorf("write catalogue: %w", err)
		}
	}
	if err = tx.Commit(); err != nil {
		return fmt.Errorf("write catalogue: %w", err)
	}
	return nil
}

// found is one place where a block may be.
type found struct {
	owner int64
	idx   int64
	block []byte // of a node
}

// maxSources bounds how many places are tried for one block.
const maxSources = 16

// sources lists where the block may be, in no order.
func (c *catalogue) sources(ctx context.Context, k [keyLen]byte, node bool) ([]found, error) {
	q := "SELECT owner, idx, NULL FROM leaves WHERE key=? LIMIT ?"
	if node {
		q = "SELECT owner, 0, block FROM nodes WHERE key=? LIMIT ?"
	}
	rs, err := c.read.QueryContext(ctx, q, k[:], maxSources*8)
	if err != nil {
		return nil, fmt.Errorf("find block: %w", err)
	}
	defer func() { _ = rs.Close() }()
	var out []found
	for rs.Next() {
		var f found
		if err := rs.Scan(&f.owner, &f.idx, &f.block); err != nil {
			return nil, fmt.Errorf("find block: %w", err)
		}
		out = append(out, f)
	}
	return out, rs.Err()
}
