package cache

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"wanderfs/cache/chunk"
)

// Pins are kept in a log of records of one size, each sealed by itself:
//
//	0   12  nonce
//	12  36  sealed: op (1), codec (1: 0x55 raw, 0x70 dag-pb), 0 0, sha2-256 digest (32)
//	48  16  tag
//
// The last record of a chunk that pins or unpins counts, and so does the last
// one that holds it or lets it loose: pins are what the user named, holds keep
// what lies below. A record that does not open is skipped,
// an incomplete one at the end cut off: a crash can cost the pin that was being
// written, no other.
const (
	pinSize  = 64
	pinPlain = 36
	pinMax   = 1 << 20 // records that are read
	pinSlack = 1024    // dead records that are never worth a rewriting
)

var pinLabel = []byte("wanderfs cache pin v1")

type pinOp byte

const (
	opPin   pinOp = 1
	opUnpin pinOp = 2
	opHold  pinOp = 3
	opLoose pinOp = 4
)

func (k *keys) sealPin(op pinOp, r chunk.Ref) []byte {
	plain := make([]byte, 4, pinPlain)
	plain[0], plain[1] = byte(op), byte(r.CID().Type())
	mh := r.Multihash()
	plain = append(plain, mh[len(mh)-sha256.Size:]...)
	return k.small.Seal(make([]byte, 0, pinSize), nil, plain, pinLabel)
}

func (k *keys) openPin(rec []byte) (pinOp, chunk.Ref, bool) {
	if len(rec) != pinSize {
		return 0, chunk.Ref{}, false
	}
	p, err := k.small.Open(nil, nil, rec, pinLabel)
	if err != nil {
		return 0, chunk.Ref{}, false
	}
	return parsePin(p)
}

func parsePin(p []byte) (pinOp, chunk.Ref, bool) {
	if len(p) != pinPlain || p[2] != 0 || p[3] != 0 {
		return 0, chunk.Ref{}, false
	}
	op := pinOp(p[0])
	if op < opPin || op > opLoose {
		return 0, chunk.Ref{}, false
	}
	mh := append([]byte{multihash.SHA2_256, sha256.Size}, p[4:]...)
	r, err := chunk.FromCID(cid.NewCidV1(uint64(p[1]), mh))
	return op, r, err == nil
}

// pinLog is the file. Its methods leave the set of pins to quota.
type pinLog struct {
	mu      sync.Mutex // keeps records in the order of what they tell
	file    *os.File   // guarded by mu
	records int64      // guarded by mu; whole ones in file
	dirty   bool       // guarded by mu; something is not synced
	round   uint32     // guarded by mu; the last that began
}

// load reads the log into the quota's set.
func (l *pinLog) load(c *Cache) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.OpenFile(c.pinPath(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("read pins: %w", bare(err))
	}
	l.file = f
	data, err := io.ReadAll(io.LimitReader(f, pinMax*pinSize))
	if err != nil {
		return fmt.Errorf("read pins: %w", bare(err))
	}
	l.records = int64(len(data) / pinSize)
	for i := range l.records {
		op, r, ok := c.keys.openPin(data[i*pinSize : (i+1)*pinSize])
		if !ok {
			continue
		}
		switch n := c.keys.slot(r).name; op {
		case opPin:
			c.quota.pin(n, r)
		case opUnpin:
			c.quota.unpin(n)
		case opHold:
			c.quota.hold(n, r, firstRound)
		case opLoose:
			c.quota.loosen(n)
		}
	}
	if l.records*pinSize != int64(len(data)) {
		if err := f.Truncate(l.records * pinSize); err != nil {
			return fmt.Errorf("mend pins: %w", bare(err))
		}
	}
	return nil
}

func (c *Cache) pinPath() string { return filepath.Join(c.dir, "pins") }

func (l *pinLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	var err error
	if l.dirty {
		err = l.file.Sync()
	}
	err = errors.Join(bare(err), bare(l.file.Close()))
	l.file = nil
	return err
}

// appendLocked writes one record at the end.
func (l *pinLog) appendLocked(rec []byte) error {
	if _, err := l.file.WriteAt(rec, l.records*pinSize); err != nil {
		// What is half written is overwritten by the next, or cut off.
		return bare(err)
	}
	l.records++
	l.dirty = true
	return nil
}

// shrinkLocked writes the log anew when most of it is dead.
func (l *pinLog) shrinkLocked(c *Cache) error {
	if l.records <= 2*c.quota.pinCount()+pinSlack {
		return nil
	}
	return l.rewriteLocked(c)
}

func (l *pinLog) rewriteLocked(c *Cache) error {
	roots, held := c.quota.pinList(), c.quota.heldList()
	live := int64(len(roots) + len(held))
	all := make([]byte, 0, live*pinSize)
	for _, r := range roots {
		all = append(all, c.keys.sealPin(opPin, r)...)
	}
	for _, r := range held {
		all = append(all, c.keys.sealPin(opHold, r)...)
	}
	if err := writeWhole(c.pinPath(), all); err != nil {
		return err
	}
	f, err := os.OpenFile(c.pinPath(), os.O_RDWR, 0)
	if err != nil {
		return bare(err)
	}
	_ = l.file.Close()
	l.file, l.records = f, live
	return nil
}

// Pin keeps the one chunk from being evicted, from now on or, if it is not held
// yet, from when it is put. Pins survive restarts of a cache whose key does. If
// the disk does not take the pin it holds for this run only.
func (c *Cache) Pin(r chunk.Ref) { c.setPin(r, opPin) }

// Unpin undoes Pin. What is held besides stays until Sweep.
func (c *Cache) Unpin(r chunk.Ref) { c.setPin(r, opUnpin) }

// Pinned reports whether r was pinned by Pin; the chunk need not be here.
func (c *Cache) Pinned(r chunk.Ref) bool {
	if r.IsZero() || c.enter() != nil {
		return false
	}
	defer c.leave()
	return c.quota.isRoot(c.keys.slot(r).name)
}

// Pins returns all that Pin has pinned, in no order.
func (c *Cache) Pins() []chunk.Ref {
	if c.enter() != nil {
		return nil
	}
	defer c.leave()
	return c.quota.pinList()
}

func (c *Cache) setPin(r chunk.Ref, op pinOp) {
	if _, inline := r.Inline(); inline || r.IsZero() || c.enter() != nil {
		return
	}
	defer c.leave()
	n := c.keys.slot(r).name
	c.pins.mu.Lock()
	defer c.pins.mu.Unlock()
	var changed bool
	if op == opPin {
		changed = c.quota.pin(n, r)
	} else {
		changed = c.quota.unpin(n)
	}
	if !changed {
		return
	}
	c.noteLocked(op, r)
}

// noteLocked writes down what happened to r. pins.mu is held.
func (c *Cache) noteLocked(op pinOp, r chunk.Ref) {
	err := c.pins.appendLocked(c.keys.sealPin(op, r))
	if err == nil {
		err = c.pins.shrinkLocked(c)
	}
	c.notSaved(err)
}

func (c *Cache) notSaved(err error) {
	if err != nil && !errors.Is(err, iofs.ErrClosed) {
		c.log.Warn("pins not saved", "err", bare(err))
	}
}
