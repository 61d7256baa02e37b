package fusetest

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"wanderfs/cache/chunk"
	"wanderfs/fs"
)

// Library is an fs.Library in memory. Content is put under made-up CIDs; the
// CID of what was put by nobody has no source.
type Library struct {
	mu      sync.Mutex
	hook    Wait // guarded by mu
	files   map[chunk.Ref][]byte
	folders map[chunk.Ref][]chunk.Entry
	links   map[chunk.Ref]string
	results map[string][]chunk.Result
	live    map[string][]*results
	kept    []string
	pinned  map[chunk.Ref]bool
	asked   []string // guarded by mu; queries and refs asked for
}

// Wait is called by every method that may wait for the network, with the name
// of the method (stat, open, dir, search, read); its error is returned.
type Wait func(ctx context.Context, method string, r chunk.Ref) error

// SetWait sets what is called before an answer; nil: nothing.
func (l *Library) SetWait(w Wait) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hook = w
}

func (l *Library) wait(ctx context.Context, method string, r chunk.Ref) error {
	l.mu.Lock()
	w := l.hook
	l.mu.Unlock()
	if w == nil {
		return nil
	}
	return w(ctx, method, r)
}

// NewLibrary returns an empty Library.
func NewLibrary() *Library {
	return &Library{
		files: make(map[chunk.Ref][]byte), folders: make(map[chunk.Ref][]chunk.Entry), links: make(map[chunk.Ref]string),
		results: make(map[string][]chunk.Result), live: make(map[string][]*results), pinned: make(map[chunk.Ref]bool),
	}
}

// File puts a file.
func (l *Library) File(data []byte) chunk.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := chunk.Raw(data)
	l.files[r] = data
	return chunk.Entry{Ref: r, Kind: chunk.File, Size: int64(len(data)), Total: int64(len(data))}
}

// Link puts a symlink.
func (l *Library) Link(target string) chunk.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := chunk.PB([]byte("link " + target))
	l.links[r] = target
	return chunk.Entry{Ref: r, Kind: chunk.Symlink, Target: target}
}

// Folder puts a folder; id makes its CID its own.
func (l *Library) Folder(id string, entries ...chunk.Entry) chunk.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := chunk.PB([]byte("folder " + id))
	l.folders[r] = entries
	return chunk.Entry{Ref: r, Kind: chunk.Folder}
}

// Named returns e under a name.
func Named(name string, e chunk.Entry) chunk.Entry {
	e.Name = name
	return e
}

// Find makes a query find results from now on, also where it was asked before.
func (l *Library) Find(query string, found ...chunk.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.results[query] = found
	for _, r := range l.live[query] {
		r.set(found)
	}
}

// Asked returns what the network was asked for, in order: queries, and the
// names of CIDs.
func (l *Library) Asked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asked)
}

func (l *Library) ask(ctx context.Context, what, thing string, r chunk.Ref) error {
	l.mu.Lock()
	l.asked = append(l.asked, thing)
	l.mu.Unlock()
	return l.wait(ctx, what, r)
}

// Stat implements fs.Library.
func (l *Library) Stat(ctx context.Context, _, r chunk.Ref) (chunk.Entry, error) {
	if err := l.ask(ctx, "stat", r.Name(), r); err != nil {
		return chunk.Entry{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if data, ok := l.files[r]; ok {
		return chunk.Entry{Ref: r, Kind: chunk.File, Size: int64(len(data))}, nil
	}
	if _, ok := l.folders[r]; ok {
		return chunk.Entry{Ref: r, Kind: chunk.Folder}, nil
	}
	if target, ok := l.links[r]; ok {
		return chunk.Entry{Ref: r, Kind: chunk.Symlink, Target: target}, nil
	}
	return chunk.Entry{}, fs.ErrNoSource
}

// Open implements fs.Library.
func (l *Library) Open(ctx context.Context, _, r chunk.Ref) (fs.File, error) {
	if err := l.ask(ctx, "open", r.Name(), r); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	data, ok := l.files[r]
	if !ok {
		return nil, fs.ErrNoSource
	}
	return &file{l: l, r: r, data: bytes.NewReader(data)}, nil
}

type file struct {
	l    *Library
	r    chunk.Ref
	data *bytes.Reader
}

func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := f.l.wait(ctx, "read", f.r); err != nil {
		return 0, err
	}
	return f.data.ReadAt(p, off)
}

// ReadLocal implements fs.Local: all is held here unless a Wait is set.
func (f *file) ReadLocal(p []byte, off int64) (int, bool) {
	f.l.mu.Lock()
	held := f.l.hook == nil
	f.l.mu.Unlock()
	if !held {
		return 0, false
	}
	n, err := f.data.ReadAt(p, off)
	return n, err == nil || err == io.EOF
}

func (f *file) Size() int64 { return f.data.Size() }

func (f *file) Close() error { return nil }

// Dir implements fs.Library.
func (l *Library) Dir(ctx context.Context, _, r chunk.Ref) (fs.Dir, error) {
	if err := l.ask(ctx, "dir", r.Name(), r); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	entries, ok := l.folders[r]
	if !ok {
		return nil, fs.ErrNotFolder
	}
	return dir(entries), nil
}

type dir []chunk.Entry

func (d dir) Lookup(_ context.Context, name string) (chunk.Entry, error) {
	for _, e := range d {
		if e.Name == name {
			return e, nil
		}
	}
	return chunk.Entry{}, fs.ErrNotFound
}

func (d dir) Each(ctx context.Context, fn func(chunk.Entry) error) error {
	for _, e := range d {
		if err := fn(e); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Search implements fs.Library. A query with a colon is refused.
func (l *Library) Search(ctx context.Context, query string) (fs.Results, error) {
	if strings.Contains(query, ":") {
		return nil, fs.ErrBadQuery
	}
	if err := l.ask(ctx, "search", query, chunk.Ref{}); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &results{found: l.results[query], changed: make(chan struct{}, 1)}
	l.live[query] = append(l.live[query], r)
	return r, nil
}

type results struct {
	mu      sync.Mutex
	found   []chunk.Result // guarded by mu
	changed chan struct{}
}

func (r *results) set(found []chunk.Result) {
	r.mu.Lock()
	r.found = found
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *results) List() []chunk.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.found)
}

func (r *results) Changed() <-chan struct{} { return r.changed }
func (r *results) Err() error               { return nil }
func (r *results) Close()                   {}

// Keep implements fs.Library.
func (l *Library) Keep(query string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.kept, query) {
		return fs.ErrExists
	}
	l.kept = append(l.kept, query)
	return nil
}

// Drop implements fs.Library.
func (l *Library) Drop(query string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = slices.DeleteFunc(l.kept, func(q string) bool { return q == query })
	return nil
}

// Kept implements fs.Library.
func (l *Library) Kept() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.kept)
}

// State implements fs.Library.
func (l *Library) State(r chunk.Ref) fs.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fs.State{Cached: 42, Sources: 3, State: "cached", Mime: "text/plain", Pinned: l.pinned[r]}
}

// Pin implements fs.Library.
func (l *Library) Pin(r chunk.Ref, on bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if on {
		l.pinned[r] = true
	} else {
		delete(l.pinned, r)
	}
	return nil
}

// Pinned implements fs.Pinned.
func (l *Library) Pinned() []chunk.Ref {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []chunk.Ref
	for r := range l.pinned {
		all = append(all, r)
	}
	return all
}

// Space implements fs.Library.
func (l *Library) Space() fs.Space { return fs.Space{Total: 10 << 30, Free: 4 << 30} }

// StatusFiles implements fs.Library.
func (l *Library) StatusFiles() []string { return []string{"peers", "errors"} }

// Status implements fs.Library.
func (l *Library) Status(name string) string { return name + ": none\n" }

// Result makes a search result of an entry.
func Result(name string, e chunk.Entry) chunk.Result {
	return chunk.Result{Name: name, Ref: e.Ref, Kind: e.Kind, Size: e.Size, Sources: 1}
}
