package cache

import (
	"errors"
	"fmt"
	"syscall"

	"wanderfs/cache/chunk"
)

// errDamaged says that a chunk's file is not what was written.
var errDamaged = errors.New("damaged chunk")

// Has reports whether the chunk is held. That its file is whole is known only
// after reading it.
func (c *Cache) Has(r chunk.Ref) bool {
	if r.IsZero() || c.enter() != nil {
		return false
	}
	defer c.leave()
	if _, ok := r.Inline(); ok {
		return true
	}
	return c.quota.lookup(c.keys.slot(r).name) != nil
}

// Get returns the chunk that r names, verified, in a slice of its own. ErrMiss
// says that it is not held, or no longer: a damaged file, and one that the disk
// does not give, is removed.
func (c *Cache) Get(r chunk.Ref) ([]byte, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	if r.IsZero() {
		return nil, ErrMiss
	}
	if data, ok := r.Inline(); ok {
		return data, nil
	}
	s := c.keys.slot(r)
	e := c.find(s)
	if e == nil {
		return nil, ErrMiss
	}
	f, st, err := c.openChunk(e)
	if err != nil {
		return nil, c.lost(e, err)
	}
	defer f.Close()
	data := make([]byte, e.size)
	if _, err := f.ReadAt(data, 0); err != nil {
		return nil, c.lost(e, err)
	}
	c.keys.crypt(s, data, data, 0)
	if good := e.good.Load(); good == nil || *good != st {
		if err := r.Verify(data); err != nil {
			return nil, c.lost(e, errDamaged)
		}
		e.good.Store(&st)
	}
	c.hits.Add(1)
	return data, nil
}

// ReadRange copies bytes of the chunk from off on into p and returns how many:
// fewer than len(p) only at the chunk's end, none at or after it. The first
// read after opening verifies the whole chunk, later ones read and decrypt the
// range alone. ErrMiss is as for Get.
func (c *Cache) ReadRange(r chunk.Ref, p []byte, off int64) (int, error) {
	if err := c.enter(); err != nil {
		return 0, err
	}
	defer c.leave()
	if off < 0 {
		return 0, errors.New("read chunk: negative offset")
	}
	if r.IsZero() {
		return 0, ErrMiss
	}
	if data, ok := r.Inline(); ok {
		return copyFrom(p, data, off), nil
	}
	s := c.keys.slot(r)
	e := c.find(s)
	if e == nil {
		return 0, ErrMiss
	}
	f, st, err := c.openChunk(e)
	if err != nil {
		return 0, c.lost(e, err)
	}
	defer f.Close()
	if good := e.good.Load(); good == nil || *good != st {
		return c.firstRead(r, s, e, f, st, p, off)
	}
	c.hits.Add(1)
	if off >= e.size {
		return 0, nil
	}
	p = p[:min(int64(len(p)), e.size-off)]
	if _, err := f.ReadAt(p, off); err != nil {
		clear(p) // it is not plaintext; nobody should take it for some
		return 0, c.lost(e, err)
	}
	c.keys.crypt(s, p, p, off)
	return len(p), nil
}

// firstRead reads the whole chunk, verifies it and copies the range. Readers
// that come at the same time share the work.
func (c *Cache) firstRead(r chunk.Ref, s slot, e *entry, f file, st stamp, p []byte, off int64) (int, error) {
	v, err, _ := c.first.Do(string(s.name[:]), func() (any, error) {
		data := make([]byte, e.size)
		if _, err := f.ReadAt(data, 0); err != nil {
			return nil, err
		}
		c.keys.crypt(s, data, data, 0)
		if r.Verify(data) != nil {
			return nil, errDamaged
		}
		e.good.Store(&st)
		return data, nil
	})
	if err != nil {
		return 0, c.lost(e, err)
	}
	c.hits.Add(1)
	return copyFrom(p, v.([]byte), off), nil
}

func copyFrom(p, data []byte, off int64) int {
	if off >= int64(len(data)) {
		return 0
	}
	return copy(p, data[off:])
}

// find looks a chunk up and counts the use.
func (c *Cache) find(s slot) *entry {
	e := c.quota.lookup(s.name)
	if e == nil {
		c.misses.Add(1)
		return nil
	}
	c.quota.touch(e)
	return e
}

// openChunk opens the file of e. Between the look-up and here it may have been
// evicted or replaced: the stamp tells which file this is.
func (c *Cache) openChunk(e *entry) (file, stamp, error) {
	f, err := c.disk.open(c.path(e.name))
	if err != nil {
		return nil, stamp{}, err
	}
	st, err := f.stamp()
	if err == nil && st.size != e.size {
		err = errDamaged
	}
	if err != nil {
		_ = f.Close()
		return nil, stamp{}, err
	}
	return f, st, nil
}

// lost deals with a chunk that could not be read: it is a miss, and unless the
// fault is this process's own and passing, the file goes.
func (c *Cache) lost(e *entry, err error) error {
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE),
		errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EACCES):
		c.misses.Add(1)
		return fmt.Errorf("%w: read chunk: %w", ErrMiss, bare(err))
	}
	c.misses.Add(1)
	if c.remove(e, true) { // not evicted meanwhile, so it was wrong
		c.damaged.Add(1)
		c.log.Debug("unreadable chunk removed", "err", bare(err))
	}
	return ErrMiss
}
