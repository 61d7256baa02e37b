package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"sync"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/node/index"
	"wanderfs/node/share"
	"wanderfs/relay"
)

// All are ours; any value works.
const (
	settleGateways = 250 * time.Millisecond // changes of gateways are told together
	retellEvery    = 50 * time.Minute       // gateways' descriptors do not last for ever
	recordLife     = 24 * time.Hour         // the longest life of a group record
	putTimeout     = 60 * time.Second
	putRetry       = 2 * time.Second // first pause after a failed put
	pointersAPut   = 256
	itemsARound    = 2048 // published before the first of them are marked
	putsAtOnce     = 4
)

// publisher makes what is shared findable: for every group of shares a
// session, its record, and for every item a pointer and postings.
type publisher struct {
	network string
	share   *share.Share
	pool    *pool
	setup   *publishing
	log     *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	kick   chan struct{} // capacity 1: a group was told for the first time

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

// shareGroup is one group of shares with its sessions.
type shareGroup struct {
	p      *publisher
	i      int
	record index.Group
	server *fetch.Server

	mu       sync.Mutex
	current  *session   // guarded by mu
	draining []*session // guarded by mu
	told     bool       // its record is in the index; guarded by mu
}

// groupBlocks gives the blocks of one group and no other.
type groupBlocks struct {
	share *share.Share
	group int
}

// Block implements fetch.Blocks.
func (b groupBlocks) Block(ctx context.Context, r chunk.Ref) ([]byte, error) {
	return b.share.Block(ctx, r, b.group)
}

func newPublisher(network string, s *share.Share, pl *pool, setup *publishing, log *slog.Logger) *publisher {
	p := &publisher{
		network: network, share: s, pool: pl, setup: setup, log: log,
		kick: make(chan struct{}, 1), groups: make(map[int]*shareGroup), items: make(map[itemKey]*itemTold),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.run)
	return p
}

// Close ends all sessions and waits for them.
func (p *publisher) Close() error {
	p.cancel()
	p.wg.Wait()
	return nil
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
	record, err := p.loadGroup(i)
	if err != nil {
		return nil, err
	}
	g := &shareGroup{p: p, i: i, record: record}
	g.server = &fetch.Server{Blocks: groupBlocks{p.share, i}}
	p.groups[i] = g
	p.wg.Go(g.run)
	return g, nil
}

// loadGroup reads the group's keys from the catalogue or makes them.
func (p *publisher) loadGroup(i int) (index.Group, error) {
	if b := p.share.GroupState(i); len(b) > 0 {
		if g, err := index.UnmarshalGroup(p.network, b); err == nil {
			return g, nil
		}
	}
	g, err := index.NewGroup(p.network)
	if err != nil {
		return g, fmt.Errorf("new group of shares: %w", err)
	}
	b, err := g.MarshalBinary()
	if err == nil {
		err = p.share.SetGroupState(i, b)
	}
	if err != nil {
		return g, fmt.Errorf("keep group of shares: %w", err)
	}
	return g, nil
}

// putItems puts pointers first and then postings, so that what is found by
// name can be read.
func (p *publisher) putItems(items []share.Item) error {
	now := time.Now()
	expires := now.Add(index.PostingLife - time.Hour)
	again := func() time.Time { // well before expiry, and not all at once
		return now.Add(index.PostingLife/2 + rand.N(index.PostingLife/4))
	}
	err := p.putPointers(items, expires, again)
	if perr := p.putPostings(items, expires, again); err == nil {
		err = perr
	}
	var done []chunk.Ref
	p.mu.Lock()
	for _, it := range items {
		if told := p.items[itemKey{it.Name, it.Entry.Ref, it.Group}]; told != nil && now.Before(told.pointer) && now.Before(told.postings) {
			done = append(done, it.Entry.Ref)
		}
	}
	p.mu.Unlock()
	p.share.MarkPublished(done, expires)
	return err
}

func (p *publisher) putPointers(items []share.Item, expires time.Time, again func() time.Time) error {
	var jobs []putJob
	open := make(map[int]*putJob) // by group: a put holds pointers of one group
	for _, it := range items {
		k := itemKey{it.Name, it.Entry.Ref, it.Group}
		p.mu.Lock()
		told, g := p.items[k], p.groups[it.Group]
		p.mu.Unlock()
		if told == nil || g == nil || time.Now().Before(told.pointer) {
			continue
		}
		rec, err := g.record.Pointer(it.Entry.Ref, expires)
		if err != nil {
			return fmt.Errorf("make pointer: %w", err)
		}
		j := open[it.Group]
		if j == nil {
			j = new(putJob)
			open[it.Group] = j
		}
		j.recs = append(j.recs, rec)
		j.done = append(j.done, func() { told.pointer = again() })
		if len(j.recs) >= pointersAPut {
			jobs = append(jobs, *j)
			delete(open, it.Group)
		}
	}
	for _, j := range open {
		jobs = append(jobs, *j)
	}
	return p.putAll(jobs)
}

func (p *publisher) putPostings(items []share.Item, expires time.Time, again func() time.Time) error {
	var jobs []putJob
	var batch *index.Batch
	var open putJob
	flush := func() {
		if len(open.recs) > 0 {
			jobs = append(jobs, open)
		}
		open, batch = putJob{}, nil
	}
	group := -1
	for _, it := range items {
		p.mu.Lock()
		told := p.items[itemKey{it.Name, it.Entry.Ref, it.Group}]
		// What cannot be read yet must not be found.
		ready := told != nil && time.Now().Before(told.pointer) && !time.Now().Before(told.postings)
		p.mu.Unlock()
		if !ready {
			continue
		}
		if it.Group != group { // a batch never ties two groups together
			flush()
			group = it.Group
		}
		what := index.Item{Name: path.Base(it.Name), Ref: it.Entry.Ref, Kind: it.Entry.Kind, Size: it.Entry.Size}
		if what.Kind == chunk.Folder {
			what.Size = it.Entry.Total
		}
		var recs []index.Record
		for try := 0; ; try++ {
			var err error
			if batch == nil {
				if batch, err = index.NewBatch(p.network); err != nil {
					return fmt.Errorf("new batch: %w", err)
				}
			}
			recs, err = batch.Postings(what, expires)
			if errors.Is(err, index.ErrBatchFull) && try == 0 {
				flush()
				continue
			}
			if err != nil { // no word, or too long a name: readable by its hash
				recs = nil
			}
			break
		}
		done := func() { told.postings = again() }
		if len(recs) == 0 {
			p.mu.Lock()
			done()
			p.mu.Unlock()
			continue
		}
		open.recs = append(open.recs, recs...)
		open.done = append(open.done, done)
	}
	flush()
	return p.putAll(jobs)
}

// putJob is what goes over one path; done is called with p.mu held.
type putJob struct {
	recs []index.Record
	done []func()
}

// putAll puts each job over a path of its own, a few at a time and in random
// order. It returns the first error after all were tried.
func (p *publisher) putAll(jobs []putJob) error {
	rand.Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
		slots = make(chan struct{}, putsAtOnce)
	)
	for _, j := range jobs {
		select {
		case slots <- struct{}{}:
		case <-p.ctx.Done():
			wg.Wait()
			return p.ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := p.put(p.ctx, j.recs); err != nil {
				mu.Lock()
				if first == nil {
					first = err
				}
				mu.Unlock()
				return
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, f := range j.done {
				f()
			}
		})
	}
	wg.Wait()
	return first
}

// put puts records over a path that serves for nothing else.
func (p *publisher) put(ctx context.Context, recs []index.Record) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	own, err := p.pool.take(ctx)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer own.Close()
	if err := index.Put(ctx, own, recs); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func (g *shareGroup) isTold() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.told
}

func (g *shareGroup) serve(ctx context.Context, c *relay.Conn) {
	g.server.Serve(ctx, c, c.First()) // its end is nobody's business
}

// run keeps a session for the group, with a successor in time, and its record
// in the index up to date.
func (g *shareGroup) run() {
	var drains sync.WaitGroup
	defer drains.Wait()
	cur := g.begin(nil)
	if cur == nil {
		return
	}
	defer func() { g.currentSession().Close() }()
	var next *session
	rotate := time.NewTimer(time.Until(cur.successorAt()))
	defer rotate.Stop()
	retell := time.NewTimer(retellEvery)
	defer retell.Stop()
	defer func() {
		if next != nil {
			next.Close()
		}
	}()
	var nextChanged <-chan struct{}
	for {
		tell := false
		select {
		case <-g.p.ctx.Done():
			return
		case <-cur.changed:
			tell = true
		case <-retell.C:
			tell = true
		case <-rotate.C:
			if next == nil {
				if next = g.begin(cur); next == nil {
					return
				}
				nextChanged = next.changed
			}
			rotate.Reset(time.Minute) // looked at again if no gateway can be found
		case <-nextChanged:
		}
		if next != nil && next.ready() > 0 {
			old := cur
			g.mu.Lock()
			g.current, g.draining = next, append(g.draining, old)
			g.mu.Unlock()
			cur, next, nextChanged = next, nil, nil
			rotate.Reset(time.Until(cur.successorAt()))
			if !g.tell(cur) { // the old one goes on to be known until this works
				signal(cur.changed)
			}
			drains.Go(func() {
				old.drain(g.p.ctx)
				g.mu.Lock()
				defer g.mu.Unlock()
				for i, s := range g.draining {
					if s == old {
						g.draining = append(g.draining[:i:i], g.draining[i+1:]...)
						break
					}
				}
			})
			continue
		}
		if tell {
			retell.Reset(retellEvery)
			if !g.tell(cur) {
				signal(cur.changed)
			}
		}
	}
}

// begin starts a session, trying until the publisher closes.
func (g *shareGroup) begin(old *session) *session {
	for {
		s, err := newSession(g.p.setup, g.serve)
		if err == nil {
			if old == nil {
				g.mu.Lock()
				g.current = s
				g.mu.Unlock()
			}
			return s
		}
		select { // no randomness, no memory: it will not last
		case <-g.p.ctx.Done():
			return nil
		case <-time.After(lastPause):
		}
	}
}

func (g *shareGroup) currentSession() *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current
}

// tell puts the group record for s into the index. It reports false when that
// should be tried again.
func (g *shareGroup) tell(s *session) bool {
	select { // gateways come and go together
	case <-g.p.ctx.Done():
		return true
	case <-time.After(settleGateways):
	}
	select {
	case <-s.changed: // is told now
	default:
	}
	src, ok := s.source(g.p.network)
	if !ok {
		return true // s.changed comes when it listens somewhere
	}
	now := time.Now()
	b, err := src.AppendBinary(nil)
	if err == nil {
		expires := earlier(src.Expires, now.Add(recordLife))
		var rec index.Record
		if rec, err = g.record.Seal(b, uint64(now.UnixMilli()), expires); err == nil {
			err = g.p.put(g.p.ctx, []index.Record{rec})
		}
	}
	if err != nil {
		select {
		case <-g.p.ctx.Done():
		case <-time.After(putRetry/2 + rand.N(putRetry)):
		}
		return false
	}
	g.mu.Lock()
	fresh := !g.told
	g.told = true
	g.mu.Unlock()
	if fresh {
		signal(g.p.kick)
	}
	return true
}

// sessionInfo is what status tells of one session.
type sessionInfo struct {
	s        *session
	draining bool
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
		g.mu.Lock()
		if g.current != nil {
			out = append(out, sessionInfo{g.current, false})
			if g.current.ready() == 0 {
				missing = g.current.missing()
			}
		}
		for _, s := range g.draining {
			out = append(out, sessionInfo{s, true})
		}
		g.mu.Unlock()
	}
	return out, missing
}
