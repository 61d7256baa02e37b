package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"wanderfs/cache/chunk"
)

// SocketName is the socket's name inside the data directory.
const SocketName = "control.sock"

const (
	maxBody     = 4 << 10          // bytes of a request's body; ours
	readTimeout = 10 * time.Second // for a request's head; ours
)

// ErrNotFound says that nobody was found who has the content. A later try may
// work.
var ErrNotFound = errors.New("no source found")

// File is open content.
type File interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	Size() int64
	Close() error
}

// Node is what the API asks of a running node. Every call that may wait takes
// a context.
type Node interface {
	Status() Status
	Search(ctx context.Context, query string) ([]chunk.Result, error)
	Stat(ctx context.Context, root, r chunk.Ref) (chunk.Entry, error)
	List(ctx context.Context, root, r chunk.Ref, fn func(chunk.Entry) error) error
	OpenFile(ctx context.Context, root, r chunk.Ref) (File, error)
	ShareState(name string) ShareState
	Link(path string) (name string, err error)
}

// Server answers on a unix socket until Close.
type Server struct {
	node Node
	http *http.Server
	ln   net.Listener
	wg   sync.WaitGroup
	once sync.Once
}

// Listen opens the socket at path with mode 0600 and serves n. A socket left
// behind by a killed node is replaced; the caller holds the data directory's
// lock, so nobody else listens there.
func Listen(path string, n Node, log *slog.Logger) (*Server, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{node: n, ln: ln}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /search", s.search)
	mux.HandleFunc("GET /stat", s.stat)
	mux.HandleFunc("GET /list", s.list)
	mux.HandleFunc("GET /file", s.file)
	mux.HandleFunc("GET /share", s.share)
	mux.HandleFunc("POST /link", s.link)
	s.http = &http.Server{
		Handler:           s.counted(http.MaxBytesHandler(mux, maxBody)),
		ReadHeaderTimeout: readTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	s.wg.Go(func() {
		if err := s.http.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Warn("control socket failed")
		}
	})
	return s, nil
}

// counted lets Close wait for the requests under way.
func (s *Server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.wg.Add(1)
		defer s.wg.Done()
		h.ServeHTTP(w, r)
	})
}

// Close ends all requests under way and removes the socket. It may be called
// twice.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		err = s.http.Close() // requests first: their contexts end with them
		s.wg.Wait()
	})
	return err
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, s.node.Status().normal())
}

func (s *Server) search(w http.ResponseWriter, r *http.Request) {
	found, err := s.node.Search(r.Context(), r.FormValue("q"))
	if err != nil {
		fail(w, err)
		return
	}
	rows := make([]Result, 0, len(found))
	for _, f := range found {
		rows = append(rows, Result{Name: f.Name, CID: f.Ref.Name(), Kind: KindName(f.Kind), Size: f.Size, Sources: f.Sources})
	}
	reply(w, rows)
}

// refs reads the content asked for and the root it is reached through.
func refs(r *http.Request) (root, ref chunk.Ref, err error) {
	if ref, err = chunk.Parse(r.FormValue("cid")); err != nil {
		return root, ref, err
	}
	root = ref
	if v := r.FormValue("root"); v != "" {
		root, err = chunk.Parse(v)
	}
	return root, ref, err
}

func (s *Server) stat(w http.ResponseWriter, r *http.Request) {
	root, ref, err := refs(r)
	if err != nil {
		fail(w, err)
		return
	}
	e, err := s.node.Stat(r.Context(), root, ref)
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, entry(e))
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	root, ref, err := refs(r)
	if err != nil {
		fail(w, err)
		return
	}
	rows := []Entry{}
	err = s.node.List(r.Context(), root, ref, func(e chunk.Entry) error {
		rows = append(rows, entry(e))
		return nil
	})
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, rows)
}

// file sends the content's bytes from off to the end. An error after the
// first byte cuts the connection, so that a short answer is never taken for
// the whole.
func (s *Server) file(w http.ResponseWriter, r *http.Request) {
	root, ref, err := refs(r)
	if err != nil {
		fail(w, err)
		return
	}
	off, err := strconv.ParseInt(r.FormValue("off"), 10, 64)
	if err != nil || off < 0 {
		fail(w, errors.New("the offset is not a number of bytes"))
		return
	}
	f, err := s.node.OpenFile(r.Context(), root, ref)
	if err != nil {
		fail(w, err)
		return
	}
	defer f.Close()
	size := max(f.Size()-off, 0)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	w.Header().Set("Content-Type", "application/octet-stream")
	buf := make([]byte, chunk.Size)
	for size > 0 {
		n, err := f.ReadAt(r.Context(), buf[:min(int64(len(buf)), size)], off)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return
			}
			off, size = off+int64(n), size-int64(n)
		}
		if err != nil && (size > 0 || !errors.Is(err, io.EOF)) {
			panic(http.ErrAbortHandler)
		}
	}
}

func (s *Server) share(w http.ResponseWriter, r *http.Request) {
	reply(w, s.node.ShareState(r.FormValue("name")))
}

func (s *Server) link(w http.ResponseWriter, r *http.Request) {
	name, err := s.node.Link(r.FormValue("path"))
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, map[string]string{"name": name})
}

func entry(e chunk.Entry) Entry {
	return Entry{Name: e.Name, CID: e.Ref.Name(), Kind: KindName(e.Kind), Size: e.Size, Target: e.Target}
}

// KindName is the word for a kind in JSON and on the terminal.
func KindName(k chunk.Kind) string {
	switch k {
	case chunk.File:
		return "file"
	case chunk.Folder:
		return "folder"
	case chunk.Symlink:
		return "symlink"
	}
	return "unknown"
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a reader that left is no error of ours
}

type failure struct {
	Error    string `json:"error"`
	NotFound bool   `json:"not_found"`
}

func fail(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(failure{Error: err.Error(), NotFound: errors.Is(err, ErrNotFound)})
}
