package share

import (
	"errors"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// watcher turns events of the file system into looks. It is a hint: whatever
// it misses (too many events, too many folders, a network file system) the
// regular rescan finds, and Block never gives unverified bytes.
type watcher struct {
	s  *Share
	fs *fsnotify.Watcher // nil if there is none
	wg sync.WaitGroup

	mu      sync.Mutex
	places  map[string]inode // guarded by mu; by absolute path
	paths   map[inode]string // guarded by mu
	limited bool             // guarded by mu; not everything is watched
	closed  bool             // guarded by mu
}

func newWatcher(s *Share) *watcher {
	w := &watcher{s: s, places: map[string]inode{}, paths: map[inode]string{}}
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		w.limited = true
		return w
	}
	w.fs = fs
	w.wg.Go(w.run)
	return w
}

// add watches the directory abs, whose inode is at.
func (w *watcher) add(at inode, abs string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fs == nil || w.closed {
		return
	}
	// The library goes on telling a moved folder's events under its old
	// name, unless that one is removed first.
	if old, ok := w.paths[at]; ok && old != abs {
		_ = w.fs.Remove(old)
		delete(w.places, old)
	}
	if p, ok := w.places[abs]; ok && p == at {
		return
	} else if ok {
		_ = w.fs.Remove(abs)
		delete(w.paths, p)
	}
	if err := w.fs.Add(abs); err != nil {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EMFILE) {
			w.limited = true
		}
		return
	}
	w.places[abs] = at
	w.paths[at] = abs
}

func (w *watcher) isLimited() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.limited
}

func (w *watcher) run() {
	events, errs := w.fs.Events, w.fs.Errors
	for events != nil || errs != nil {
		select {
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			w.event(e)
		case err, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			w.fault(err)
		}
	}
}

func (w *watcher) event(e fsnotify.Event) {
	if e.Op.Has(fsnotify.Remove) || e.Op.Has(fsnotify.Rename) {
		w.mu.Lock()
		if at, ok := w.places[e.Name]; ok {
			_ = w.fs.Remove(e.Name)
			delete(w.places, e.Name)
			delete(w.paths, at)
		}
		w.mu.Unlock()
	}
	if hiddenPart(filepath.Base(e.Name)) {
		return
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for _, src := range w.s.sources { // few: one and the links
		rel, ok := below(e.Name, src.dir)
		if !ok || rel == "" {
			continue
		}
		rel = rel[1:]
		if _, ok := below(rel, src.base); src.base == "" || ok {
			w.s.looks[look{src, rel}] = struct{}{}
		}
	}
	w.s.wake()
}

// fault handles lost events: then only a look at everything helps.
func (w *watcher) fault(err error) {
	if errors.Is(err, fsnotify.ErrEventOverflow) {
		w.s.log.Debug("events of the shared directory were lost, looking at all of it")
	} else {
		w.s.log.Debug("watching the shared directory failed, looking at all of it")
	}
	w.s.lookAtAll()
}

func (w *watcher) close() {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if w.fs != nil && !closed {
		_ = w.fs.Close()
	}
	w.wg.Wait()
}

// lookAt has the keeper compare one name with the disk.
func (s *Share) lookAt(src *source, rel string) {
	s.mu.Lock()
	s.looks[look{src, rel}] = struct{}{}
	s.mu.Unlock()
	s.wake()
}

// lookAtAll has the keeper compare everything with the disk.
func (s *Share) lookAtAll() {
	s.mu.Lock()
	s.full = true
	s.mu.Unlock()
	s.wake()
}
