package index

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

const (
	sweepRows  = 2000 // removed in one transaction; ours
	sweepTimes = 100  // transactions in one round; what is left waits for the next; ours
)

// sweepLoop removes what expired until ctx ends.
func (s *Store) sweepLoop(ctx context.Context) {
	t := time.NewTicker(s.cfg.Sweep)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
				s.cfg.Log.Error("index store not swept", "err", err)
			}
		}
	}
}

// sweep removes what expired, some rows at a time so that puts get in between.
func (s *Store) sweep(ctx context.Context) error {
	for range sweepTimes {
		d := s.current()
		n, err := s.sweepSome(ctx, d)
		if err != nil {
			return s.failed(d, fmt.Errorf("sweep: %w", err))
		}
		if n < sweepRows {
			return nil
		}
	}
	return nil
}

// sweepSome removes rows one by one by their whole key: given a list of keys,
// SQLite searches by the first column only and reads all of the table.
func (s *Store) sweepSome(ctx context.Context, d *database) (int64, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	tx, err := d.w.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	keys, err := expired(ctx, tx, s.cfg.Now().Unix())
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	remove := tx.StmtContext(ctx, d.sql.remove)
	for _, k := range keys {
		if _, err := remove.ExecContext(ctx, k.kind, k.addr, k.id); err != nil {
			return 0, err
		}
	}
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	n := int64(len(keys))
	s.total.Add(-n)
	s.mu.Lock()
	clear(s.counts)
	s.mu.Unlock()
	return n, nil
}

type rowKey struct {
	kind     int64
	addr, id []byte
}

func expired(ctx context.Context, tx *sql.Tx, now int64) ([]rowKey, error) {
	rows, err := tx.QueryContext(ctx, "SELECT k, a, i FROM r WHERE e <= ? LIMIT ?", now, sweepRows)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	keys := make([]rowKey, 0, sweepRows)
	for rows.Next() {
		var k rowKey
		if err := rows.Scan(&k.kind, &k.addr, &k.id); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}
