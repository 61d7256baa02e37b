package index

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// statements are those of the writer, prepared once.
type statements struct{ one, length, signed, insert, update, remove *sql.Stmt }

func (st *statements) prepare(db *sql.DB) error {
	for dst, q := range map[**sql.Stmt]string{
		&st.one:    "SELECT b FROM r WHERE k = ? AND a = ? AND i = ?",
		&st.length: countSQL,
		&st.signed: "SELECT count(*) FROM r WHERE s = ?",
		&st.insert: "INSERT INTO r (k, a, i, s, e, b) VALUES (?, ?, ?, ?, ?, ?)",
		&st.remove: "DELETE FROM r WHERE k = ? AND a = ? AND i = ?",
		&st.update: "UPDATE r SET e = ?, s = ?, b = ? WHERE k = ? AND a = ? AND i = ?",
	} {
		var err error
		if *dst, err = db.Prepare(q); err != nil {
			return errors.Join(err, st.close())
		}
	}
	return nil
}

func (st *statements) close() error {
	var err error
	for _, s := range []*sql.Stmt{st.one, st.length, st.signed, st.insert, st.update, st.remove} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	return err
}

// within returns the statements for one transaction.
func (st *statements) within(ctx context.Context, tx *sql.Tx) statements {
	return statements{
		one: tx.StmtContext(ctx, st.one), length: tx.StmtContext(ctx, st.length), signed: tx.StmtContext(ctx, st.signed),
		insert: tx.StmtContext(ctx, st.insert), update: tx.StmtContext(ctx, st.update),
	}
}

// put stores what may be stored and returns 1 for each record that is held
// afterwards, 0 for each that was refused. Signatures are verified before the
// database is touched.
func (s *Store) put(ctx context.Context, recs []Record) ([]byte, error) {
	copies := make([]byte, len(recs))
	good := make([]int, 0, len(recs))
	now := s.cfg.Now()
	for i, r := range recs {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if s.timely(r, now) && r.Verify(s.cfg.Network) == nil {
			good = append(good, i)
		}
	}
	if len(good) == 0 {
		return copies, nil
	}
	d := s.current()
	if err := s.write(ctx, d, recs, good, copies); err != nil {
		return nil, s.failed(d, fmt.Errorf("put: %w", err))
	}
	return copies, nil
}

// write stores the good ones of recs in one transaction and notes them in
// copies.
func (s *Store) write(ctx context.Context, d *database, recs []Record, good []int, copies []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	tx, err := d.w.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	p := putting{s: s, sql: d.sql.within(ctx, tx), lengths: make(map[slot]int), signers: make(map[int64]int)}
	for _, i := range good {
		held, err := p.one(ctx, recs[i])
		if err != nil {
			return err
		}
		if held {
			copies[i] = 1
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.total.Add(p.added)
	s.remember(p.lengths)
	return nil
}

// timely reports whether r has not ended and does not end too late.
func (s *Store) timely(r Record, now time.Time) bool {
	life := s.limits.Life
	if r.Kind() == GroupInfo {
		life = s.limits.GroupLife
	}
	e := r.Expires()
	return now.Before(e) && !e.After(now.Add(life))
}

// putting is one transaction of puts.
type putting struct {
	s       *Store
	sql     statements
	lengths map[slot]int  // as they are in the transaction
	signers map[int64]int // postings per batch key, likewise
	added   int64
}

func (p *putting) one(ctx context.Context, r Record) (bool, error) {
	addr, id, key := r.Address(), r.id(), r.key()
	k := slot{r.Kind(), [addrPrefix]byte(addr[:])}
	signer := int64(binary.BigEndian.Uint64(key[:]))

	var body []byte
	err := p.sql.one.QueryRowContext(ctx, k.kind, k.addr[:], id[:]).Scan(&body)
	switch {
	case err == nil:
		old, err := ParseRecord(body)
		if err == nil && !replaces(r, old) {
			return newest(r, old), nil
		}
		_, err = p.sql.update.ExecContext(ctx, r.Expires().Unix(), signer, r.b, k.kind, k.addr[:], id[:])
		return err == nil, err
	case !errors.Is(err, sql.ErrNoRows):
		return false, err
	}
	if p.s.total.Load()+p.added >= int64(p.s.limits.Records) {
		return false, nil
	}
	n, ok := p.lengths[k]
	if !ok {
		if n, ok = p.s.counted(k); !ok {
			if err := p.sql.length.QueryRowContext(ctx, k.kind, k.addr[:]).Scan(&n); err != nil {
				return false, err
			}
		}
	}
	if n >= p.s.perAddress(k.kind) {
		return false, nil
	}
	if k.kind == Posting {
		m, ok := p.signers[signer]
		if !ok {
			if err := p.sql.signed.QueryRowContext(ctx, signer).Scan(&m); err != nil {
				return false, err
			}
		}
		if m >= p.s.limits.PerKey {
			p.signers[signer] = m
			return false, nil
		}
		p.signers[signer] = m + 1
	}
	if _, err := p.sql.insert.ExecContext(ctx, k.kind, k.addr[:], id[:], signer, r.Expires().Unix(), r.b); err != nil {
		return false, err
	}
	p.lengths[k] = n + 1
	p.added++
	return true, nil
}

func (s *Store) perAddress(kind RecordKind) int {
	switch kind {
	case Posting:
		return s.limits.PerAddress
	case Pointer:
		return s.limits.Pointers
	}
	return 1
}

// replaces reports whether r takes the place of old, which has the same id: a
// group record by a higher seq, the others by ending later.
func replaces(r, old Record) bool {
	if r.Address() != old.Address() {
		return false // same first bytes only
	}
	if r.Kind() == GroupInfo {
		return r.Seq() > old.Seq()
	}
	return r.Expires().After(old.Expires())
}

// newest reports whether old, which stays, serves as well as r.
func newest(r, old Record) bool {
	if r.Kind() == GroupInfo {
		return string(r.b) == string(old.b)
	}
	return r.Address() == old.Address()
}
