package cache

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"wanderfs/cache/chunk"
)

// roomTries bounds how often a put makes room before it gives up: others may
// take what was freed.
const roomTries = 8

// Put stores data as the chunk that r names. Data that does not hash to r
// gives chunk.ErrMismatch; ErrFull says that there is no room, other errors
// that the disk failed: in both cases the chunk is not held. Put keeps no
// reference to data. The bytes survive the end of the process, but may be lost
// in a power failure.
func (c *Cache) Put(r chunk.Ref, data []byte) error {
	if err := r.Verify(data); err != nil {
		return err
	}
	return c.PutVerified(r, data)
}

// PutVerified is Put for data that the caller has just verified against r: a
// hash costs as much as all else of a put. What the disk gives back later is
// still verified before it is given to anybody.
func (c *Cache) PutVerified(r chunk.Ref, data []byte) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	if len(data) > chunk.MaxBlock {
		return chunk.ErrMismatch // no block is as long
	}
	if _, ok := r.Inline(); ok {
		return nil // the name is the data
	}
	s := c.keys.slot(r)
	if e := c.quota.lookup(s.name); e != nil && e.good.Load() != nil {
		c.quota.touch(e)
		return nil
	}
	w := weight(int64(len(data)))
	if err := c.room(w); err != nil {
		return err
	}
	err := c.write(s, data, w)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		// The free space was not what it seemed. Make room once more.
		if c.drop(c.quota.coldest(w)) == 0 {
			return ErrFull
		}
		if err := c.room(w); err != nil {
			return err
		}
		err = c.write(s, data, w)
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return ErrFull
	case err != nil:
		return fmt.Errorf("write chunk: %w", err)
	}
	c.drop(c.quota.overflow())
	return nil
}

// room books w bytes, evicting what it must. ErrFull if that is not enough.
func (c *Cache) room(w int64) error {
	if w > c.quota.limit {
		return ErrFull
	}
	for range roomTries {
		avail := int64(-1)
		if c.quota.minFree > 0 {
			if a, _, err := c.disk.free(c.dir); err == nil {
				avail = a
			}
		}
		short := c.quota.reserve(w, avail)
		if short == 0 {
			return nil
		}
		if l := c.quota.coldest(short); len(l) == 0 {
			return ErrFull
		} else {
			c.drop(l)
		}
	}
	return ErrFull
}

// write puts the encrypted chunk in place, for which w bytes are booked. What
// is in place is whole as far as this process can tell; if the machine stops
// in between, the first read finds out.
func (c *Cache) write(s slot, data []byte, w int64) (err error) {
	tmp := c.tempName()
	f, err := c.disk.create(tmp)
	if err != nil {
		c.quota.unreserve(w)
		return err
	}
	var placed *entry
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		switch {
		case placed == nil:
			_ = c.disk.remove(tmp)
			c.quota.unreserve(w)
		case err != nil: // some file systems tell only now that they lost it
			c.remove(placed, true)
		}
	}()
	buf := c.bufs.Get().(*[]byte)
	defer c.bufs.Put(buf)
	body := (*buf)[:len(data)]
	c.keys.crypt(s, body, data, 0)
	if _, err := f.Write(body); err != nil {
		return err
	}
	l := &c.names[s.name[0]]
	l.Lock()
	defer l.Unlock()
	if err := c.intoPlace(tmp, c.path(s.name)); err != nil {
		return err
	}
	e := &entry{name: s.name, size: int64(len(data))}
	e.touched.Store(time.Now().UnixNano()) // the read that it was fetched for is no second use
	if st, err := f.stamp(); err == nil && st.size == e.size {
		e.good.Store(&st) // else the first read verifies it
	}
	c.quota.add(e, w)
	placed = e
	return nil
}

// intoPlace renames tmp to path, whose directory may have to be made.
func (c *Cache) intoPlace(tmp, path string) error {
	err := c.disk.rename(tmp, path)
	if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	if err := c.disk.mkdir(filepath.Dir(path)); err != nil && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	return c.disk.rename(tmp, path)
}

func (c *Cache) tempName() string {
	return c.dir + "/tmp/" + strconv.FormatUint(c.temps.Add(1), 36)
}

// drop removes chunks to make room and returns how many went. Readers that
// have one open read on; later ones miss.
func (c *Cache) drop(l []*entry) (n int) {
	for _, e := range l {
		if c.remove(e, false) {
			c.evicted.Add(1)
			n++
		}
	}
	return n
}

// remove takes e out of the index and off the disk, if it still is the entry
// of its name; pinned ones only by force.
func (c *Cache) remove(e *entry, force bool) bool {
	l := &c.names[e.name[0]]
	l.Lock()
	defer l.Unlock()
	if !c.quota.remove(e, force) {
		return false
	}
	if err := c.disk.remove(c.path(e.name)); err != nil && !errors.Is(err, syscall.ENOENT) {
		// It takes space that is not accounted for until the next opening.
		c.log.Warn("chunk file not removed", "err", bare(err))
	}
	c.quota.removed(e)
	return true
}
