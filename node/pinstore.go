package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"wanderfs/cache"
)

const (
	pinsDir    = "pinned"
	oldEntries = "entries.json" // of earlier versions; plain text
)

// errPinsDamaged says that what was kept cannot be read. It is gone; saving
// anew repairs it.
var errPinsDamaged = errors.New("pinned relays: damaged")

// pinStore keeps which relays are pinned, sealed, in a small cache of its own
// with a key of its own in the data directory. Not in the cache of content:
// that one's key may live in memory only, and it may be thrown away at any
// time, while pins must outlast both. Whoever forgets his entries at each
// start shows himself to new ones each time, which costs more than what the
// file tells to a thief of the disk: two or three relays, nothing that was
// read, searched or shared. A nil store keeps nothing.
type pinStore struct {
	files *cache.Cache
	name  string // one of each network: others' relays are of no use
}

// openPins opens the store in a data directory. One that cannot be opened for
// what is in it is made anew.
func openPins(dir, network string, log *slog.Logger) (*pinStore, error) {
	// The entries of earlier versions had no proven uptime, no limit and no
	// seal: they are not taken over.
	if err := os.Remove(filepath.Join(dir, oldEntries)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("remove old list of entries")
	}
	at := filepath.Join(dir, pinsDir)
	cfg := cache.Config{Dir: at, Limit: 1 << 20, MinFree: -1}
	files, err := cache.Open(cfg)
	if err != nil && !errors.Is(err, cache.ErrLocked) {
		log.Warn("what was kept about pinned relays is damaged, pinning anew")
		if os.RemoveAll(at) == nil {
			files, err = cache.Open(cfg)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned relays: %w", err)
	}
	return &pinStore{files: files, name: "pins-" + sealName(network)}, nil
}

// sealName turns a network's name into one that a sealed file may have.
func sealName(network string) string {
	b := []byte(network)
	for i, c := range b {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9') {
			b[i] = '-'
		}
	}
	return string(b[:min(len(b), 48)])
}

// load gives what was last saved; nil when there is nothing, errPinsDamaged
// when it cannot be read.
func (p *pinStore) load() ([]byte, error) {
	if p == nil {
		return nil, nil
	}
	b, err := p.files.Unseal(p.name)
	switch {
	case errors.Is(err, cache.ErrMiss):
		return nil, nil
	case errors.Is(err, cache.ErrDamaged):
		return nil, errPinsDamaged
	}
	return b, err
}

// save replaces what is kept. It is on disk when save returns.
func (p *pinStore) save(b []byte) error {
	if p == nil {
		return nil
	}
	return p.files.Seal(p.name, b)
}

// Close may be called twice.
func (p *pinStore) Close() error {
	if p == nil {
		return nil
	}
	return p.files.Close()
}
