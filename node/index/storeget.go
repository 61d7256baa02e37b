package index

import (
	"context"
	"database/sql"
	"fmt"
)

// get reads one page of a list, going round the circle from g.Start, or from
// where the page before ended.
func (s *Store) get(ctx context.Context, g getRequest) (getAnswer, error) {
	d := s.current()
	a, err := s.getFrom(ctx, d.r, g)
	if err != nil {
		return getAnswer{}, s.failed(d, fmt.Errorf("get: %w", err))
	}
	return a, nil
}

func (s *Store) getFrom(ctx context.Context, db *sql.DB, g getRequest) (getAnswer, error) {
	k := slot{g.Kind, [addrPrefix]byte(g.Addr[:])}
	n, ok := s.counted(k)
	if !ok {
		if err := db.QueryRowContext(ctx, countSQL, k.kind, k.addr[:]).Scan(&n); err != nil {
			return getAnswer{}, err
		}
	}
	a := getAnswer{Total: uint32(n), Load: s.load()}
	p := page{g: g, a: &a, now: s.cfg.Now().Unix(), room: MaxMessage - gotHead}
	if !g.Resume || string(g.After[:]) >= string(g.Start[:]) {
		op, from := ">=", g.Start
		if g.Resume {
			op, from = ">", g.After
		}
		if err := p.read(ctx, db, "SELECT i, b FROM r WHERE k = ? AND a = ? AND i "+op+" ? AND e > ? ORDER BY i",
			k.kind, k.addr[:], from[:], p.now); err != nil {
			return getAnswer{}, err
		}
		g.Resume, g.After = false, recordID{}
	}
	if a.More {
		return a, nil
	}
	// The circle's other half: below Start.
	op := ">"
	if !g.Resume {
		op = ">="
	}
	if err := p.read(ctx, db, "SELECT i, b FROM r WHERE k = ? AND a = ? AND i "+op+" ? AND i < ? AND e > ? ORDER BY i",
		k.kind, k.addr[:], g.After[:], g.Start[:], p.now); err != nil {
		return getAnswer{}, err
	}
	return a, nil
}

// page fills an answer.
type page struct {
	g    getRequest
	a    *getAnswer
	now  int64
	room int // bytes left
}

// read adds what passes the filters until the page is full; then More and Next
// are set.
func (p *page) read(ctx context.Context, db *sql.DB, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, body sql.RawBytes
		if err := rows.Scan(&id, &body); err != nil {
			return err
		}
		if len(id) != len(recordID{}) || recordSize(body) != len(body) {
			continue // a damaged row is a missing one
		}
		if v := (Record{body}); v.Address() != p.g.Addr || !p.g.accepts(v) {
			continue
		}
		if len(p.a.Records) == p.g.Limit || len(body) > p.room {
			p.a.More = true
			return nil
		}
		r, err := ParseRecord(body)
		if err != nil {
			continue
		}
		p.a.Records = append(p.a.Records, r)
		p.a.Next = recordID(id)
		p.room -= len(body)
	}
	return rows.Err()
}
