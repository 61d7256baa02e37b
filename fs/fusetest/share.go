package fusetest

import (
	"slices"
	"sync"

	"wanderfs/fs"
)

// Share is an fs.Share over a directory that remembers what it is told.
type Share struct {
	dir string

	mu     sync.Mutex
	events []string                 // guarded by mu
	states map[string]fs.ShareState // guarded by mu
}

// NewShare returns a Share over dir, which must exist.
func NewShare(dir string) *Share {
	return &Share{dir: dir, states: make(map[string]fs.ShareState)}
}

func (s *Share) told(event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.events); n > 0 && s.events[n-1] == event {
		return // many writes are one
	}
	s.events = append(s.events, event)
}

// Events returns what it was told since the last call.
func (s *Share) Events() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := slices.Clone(s.events)
	s.events = nil
	return e
}

// SetState makes State answer st for name.
func (s *Share) SetState(name string, st fs.ShareState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[name] = st
}

// Dir implements fs.Share.
func (s *Share) Dir() string { return s.dir }

// BeginWrite implements fs.Share.
func (s *Share) BeginWrite(name string) { s.told("begin " + name) }

// Wrote implements fs.Share.
func (s *Share) Wrote(name string) { s.told("wrote " + name) }

// Closed implements fs.Share.
func (s *Share) Closed(name string) { s.told("closed " + name) }

// Renamed implements fs.Share.
func (s *Share) Renamed(old, new string) { s.told("renamed " + old + " " + new) }

// Removed implements fs.Share.
func (s *Share) Removed(name string) { s.told("removed " + name) }

// State implements fs.Share.
func (s *Share) State(name string) fs.ShareState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[name]
}
