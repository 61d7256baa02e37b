package node

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/index"
	"wanderfs/node/share"
)

// All are ours; any value works.
const (
	putTimeout   = 60 * time.Second
	pointersAPut = 256
	putsAtOnce   = 4
)

// putItems puts pointers first and then postings, so that what is found by
// name can be read.
func (p *publisher) putItems(items []share.Item) error {
	// A batch holds what is of one group, and tells nothing by its order.
	rand.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	slices.SortStableFunc(items, func(a, b share.Item) int { return cmp.Compare(a.Group, b.Group) })
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
		told, g := p.items[itemKey{it.Name, it.Entry.Ref, it.Group}], p.groups[it.Group]
		// What cannot be read yet must not be found.
		ready := told != nil && g != nil && time.Now().Before(told.pointer) && !time.Now().Before(told.postings)
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
				if batch, err = g.record.NewBatch(); err != nil {
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
