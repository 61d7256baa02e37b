package node

import (
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/node/share"
	"wanderfs/relay/wire"
)

// All are ours; any value works.
const (
	putRetry    = 2 * time.Second // first pause after a failed put
	itemsARound = 2048            // published before the first of them are marked
)

// publisher makes what is shared findable: for every group of shares a
// session, its record, and for every item a pointer and postings.
type publisher struct {
	*announcer
	share *share.Share
	log   *slog.Logger

	mu     sync.Mutex
	groups map[int]*shareGroup   // guarded by mu
	items  map[itemKey]*itemTold // guarded by mu
}

type itemKey struct {
	name  string
	ref   chunk.Ref
	group int
}

// itemTold is when the records of an item are due again.
type itemTold struct {
	pointer, postings time.Time
	pass              uint64
}

func newPublisher(network string, s *share.Share, pl *pool, setup *publishing, log *slog.Logger) *publisher {
	p := &publisher{
		announcer: newAnnouncer(network, pl, setup, make(chan struct{}, 1)),
		share:     s, log: log, groups: make(map[int]*shareGroup), items: make(map[itemKey]*itemTold),
	}
	p.wg.Go(p.run)
	return p
}

// run publishes whatever is not published yet, or no longer.
func (p *publisher) run() {
	pause := putRetry
	for pass := uint64(1); ; pass++ {
		next, err := p.publish(pass)
		wait := time.Until(next)
		if err != nil {
			wait = pause/2 + rand.N(pause)
			pause = min(2*pause, lastPause)
			p.log.Debug("not everything could be published")
		} else {
			pause = putRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-p.ctx.Done():
			timer.Stop()
			return
		case <-p.share.Changed():
		case <-p.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// publish looks at everything shared and puts what is due. It returns when
// the next item is due.
func (p *publisher) publish(pass uint64) (next time.Time, err error) {
	now := time.Now()
	next = now.Add(time.Hour)
	var due []share.Item
	p.mu.Lock()
	for _, it := range p.share.Items() {
		g, gerr := p.groupLocked(it.Group)
		if gerr != nil {
			err = gerr
			continue
		}
		k := itemKey{it.Name, it.Entry.Ref, it.Group}
		told := p.items[k]
		if told == nil {
			told = new(itemTold)
			p.items[k] = told
		}
		told.pass = pass
		if !g.isTold() {
			continue // comes back by kick
		}
		if at := earlier(told.pointer, told.postings); !now.Before(at) {
			due = append(due, it)
		} else {
			next = earlier(next, at)
		}
	}
	for k, told := range p.items {
		if told.pass != pass {
			delete(p.items, k)
		}
	}
	p.mu.Unlock()
	for len(due) > 0 && p.ctx.Err() == nil {
		n := min(len(due), itemsARound)
		if perr := p.putItems(due[:n]); perr != nil {
			return next, perr
		}
		due = due[n:]
	}
	return next, err
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// groupLocked returns group i and begins its session when it is new.
func (p *publisher) groupLocked(i int) (*shareGroup, error) {
	if g := p.groups[i]; g != nil {
		return g, nil
	}
	record, known, err := p.loadGroup(i)
	if err != nil {
		return nil, err
	}
	spread := spreadNew
	if known {
		spread = spreadKnown
	}
	g := &shareGroup{p: p.announcer, record: record, spread: min(spread, p.setup.life/20+1)}
	g.server = &fetch.Server{Blocks: groupBlocks{p.share, i}}
	p.groups[i] = g
	p.wg.Go(g.run)
	return g, nil
}

// What a session is for.
const (
	roleReader    = "reader"
	rolePublisher = "publisher"
)

// sessionInfo is what status tells of one session.
type sessionInfo struct {
	role     string
	number   wire.SessionNumber
	expires  time.Time
	draining bool
}

func (s *session) info(draining bool) sessionInfo {
	i := sessionInfo{role: rolePublisher, number: s.number, expires: s.expires, draining: draining}
	if draining {
		i.expires = s.over()
	}
	return i
}

// sessions lists the living sessions, and why one of them listens nowhere.
func (p *publisher) sessions() (out []sessionInfo, missing error) {
	p.mu.Lock()
	groups := make([]*shareGroup, 0, len(p.groups))
	for _, g := range p.groups {
		groups = append(groups, g)
	}
	p.mu.Unlock()
	for _, g := range groups {
		have, err := g.sessions()
		out = append(out, have...)
		if err != nil {
			missing = err
		}
	}
	return out, missing
}

// sessions lists those of the group, and why the present one listens nowhere.
func (g *shareGroup) sessions() (out []sessionInfo, missing error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current != nil {
		if g.current.ctx.Err() == nil {
			out = append(out, g.current.info(false))
		}
		if g.current.ready() == 0 {
			missing = g.current.missing()
		}
	}
	for _, s := range g.draining {
		out = append(out, s.info(true))
	}
	return out, missing
}
