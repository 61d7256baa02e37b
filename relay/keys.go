package relay

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

var (
	errReplay = errors.New("handshake was seen before")
	errFull   = errors.New("too many handshakes under one key")
)

// onionSlack is how long before its end an onion key is no longer given out:
// clocks differ, and packets travel.
const onionSlack = 5 * time.Minute // ours; any value works

// onionLate is how much longer than OnionLife a key may be there: turn is
// called once a minute, and by who opens a packet.
const onionLate = 2 * time.Minute // ours

// onionKeys are a relay's onion keys. Safe for concurrent use.
//
//	made         + 1 h                  + 2 h
//	|-- in descriptors --|-- still opened --|  dropped, with its replay cache
//	                     |-- in descriptors --|-- still opened --| ...
//
// SPEC.md §4
type onionKeys struct {
	now     func() time.Time
	replays int // packets that may be remembered for each key: more than can come

	mu   sync.Mutex
	keys []*onionKey // newest first, at most two; guarded by mu
	over bool        // guarded by mu
}

type onionKey struct {
	key  *wire.PrivateKey
	made time.Time
	seen *replays
}

func newOnionKeys(now func() time.Time, replays int) (*onionKeys, error) {
	o := &onionKeys{now: now, replays: replays}
	return o, o.turn()
}

// turn makes a new key if it is time, and drops what is too old.
func (o *onionKeys) turn() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.turnLocked()
}

func (o *onionKeys) turnLocked() error {
	if o.over {
		return ErrClosed
	}
	now := o.now()
	for n := len(o.keys); n > 0 && now.Sub(o.keys[n-1].made) >= wire.OnionLife; n-- {
		o.keys[n-1] = nil
		o.keys = o.keys[:n-1]
	}
	if len(o.keys) > 0 && now.Sub(o.keys[0].made) < wire.OnionTurn {
		return nil
	}
	k, err := wire.NewPrivateKey()
	if err != nil {
		return err
	}
	o.keys = append([]*onionKey{{key: k, made: now, seen: newReplays(o.replays)}}, o.keys[:min(1, len(o.keys))]...)
	return nil
}

// current gives the key for descriptors, and until when they may name it.
func (o *onionKeys) current() (*wire.PublicKey, time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.turnLocked() != nil {
		return nil, time.Time{}
	}
	return o.keys[0].key.Public(), o.keys[0].made.Add(wire.OnionLife - onionSlack)
}

// open opens a set-up packet with a key that lives, once.
func (o *onionKeys) open(network string, self wire.NodeID, packet []byte) (*wire.Setup, error) {
	id, err := wire.SetupID(packet)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	err = o.turnLocked()
	keys := append([]*onionKey(nil), o.keys...)
	o.mu.Unlock()
	if err != nil {
		return nil, err
	}
	err = wire.ErrMalformed
	for _, k := range keys {
		if k.seen.has(id) { // before any work is done for it
			return nil, errReplay
		}
		s, e := wire.OpenSetup(network, self, k.key, packet)
		if e != nil {
			continue
		}
		if err := k.seen.add(id); err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, err
}

// run turns the keys until ctx ends, and drops them then.
func (o *onionKeys) run(ctx context.Context) {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			o.turn() // fails only without randomness; tried again
		case <-ctx.Done():
			return
		}
	}
}

// erase drops the keys for good.
func (o *onionKeys) erase() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.keys)
	o.keys, o.over = nil, true
}

// replays remembers handshakes by 8 bytes of their hash, which who sends them
// cannot turn against anybody else's. It never forgets: it goes with its key.
type replays struct {
	max  int
	mu   sync.Mutex
	seen map[uint64]struct{} // guarded by mu
}

func newReplays(n int) *replays { return &replays{max: n, seen: map[uint64]struct{}{}} }

func replayID(id []byte) uint64 {
	h := sha256.Sum256(id)
	return binary.BigEndian.Uint64(h[:])
}

func (r *replays) has(id []byte) bool {
	k := replayID(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.seen[k]
	return ok
}

// add remembers a handshake; errReplay if another was quicker. When too many
// are there none is taken any more: to forget one would let it be replayed.
func (r *replays) add(id []byte) error {
	k := replayID(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.seen[k]; ok {
		return errReplay
	}
	if len(r.seen) >= r.max {
		return errFull
	}
	r.seen[k] = struct{}{}
	return nil
}
