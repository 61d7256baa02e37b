package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"wanderfs/cache/chunk"
)

// shelf is a Node that holds one file.
type shelf struct {
	data []byte
	cut  int64 // ReadAt fails from here on, if not 0
}

func (n *shelf) ref() chunk.Ref { return chunk.Raw(n.data) }

func (n *shelf) Status() Status { return Status{Version: "test", Ready: true, Peers: 3} }

func (n *shelf) Search(_ context.Context, q string) ([]chunk.Result, error) {
	if q == "-bad" {
		return nil, errors.New("that query cannot be asked")
	}
	return []chunk.Result{{Name: q, Ref: n.ref(), Kind: chunk.File, Size: int64(len(n.data)), Sources: 2}}, nil
}

func (n *shelf) Stat(_ context.Context, _, r chunk.Ref) (chunk.Entry, error) {
	if r != n.ref() {
		return chunk.Entry{}, ErrNotFound
	}
	return chunk.Entry{Ref: r, Kind: chunk.File, Size: int64(len(n.data))}, nil
}

func (n *shelf) List(_ context.Context, _, _ chunk.Ref, fn func(chunk.Entry) error) error {
	return fn(chunk.Entry{Name: "a\nb", Ref: n.ref(), Kind: chunk.File})
}

func (n *shelf) OpenFile(context.Context, chunk.Ref, chunk.Ref) (File, error) { return n, nil }
func (n *shelf) ShareState(name string) ShareState                            { return ShareState{Phase: name} }
func (n *shelf) Link(path string) (string, error)                             { return filepath.Base(path), nil }
func (n *shelf) Size() int64                                                  { return int64(len(n.data)) }
func (n *shelf) Close() error                                                 { return nil }

func (n *shelf) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if n.cut > 0 && off >= n.cut {
		return 0, errors.New("all sources are gone")
	}
	return bytes.NewReader(n.data).ReadAt(p, off)
}

func serve(t *testing.T, n Node) *Client {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) }) // cleanups run last first
	path := filepath.Join(t.TempDir(), SocketName)
	s, err := Listen(path, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := Dial(path)
	t.Cleanup(func() {
		c.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error("second Close:", err)
		}
	})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode().Perm(), os.FileMode(0o600); got != want {
		t.Errorf("socket mode: got %v, want %v", got, want)
	}
	return c
}

func TestStatus(t *testing.T) {
	c := serve(t, &shelf{})
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !s.Ready || s.Peers != 3 || s.Transfers == nil || s.Shared.Errors == nil {
		t.Errorf("status: got %+v", s)
	}
}

func TestSearchStatAndList(t *testing.T) {
	n := &shelf{data: []byte("hello")}
	c := serve(t, n)
	rows, err := c.Search(t.Context(), "free jazz & more")
	if err != nil {
		t.Fatal(err)
	}
	want := []Result{{Name: "free jazz & more", CID: n.ref().Name(), Kind: "file", Size: 5, Sources: 2}}
	if !slices.Equal(rows, want) {
		t.Errorf("search: got %v, want %v", rows, want)
	}
	if _, err := c.Search(t.Context(), "-bad"); err == nil || err.Error() != "that query cannot be asked" {
		t.Errorf("bad query: got %v", err)
	}
	if _, err := c.Stat(t.Context(), n.ref(), chunk.Raw(nil)); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown content: got %v, want ErrNotFound", err)
	}
	list, err := c.List(t.Context(), n.ref(), n.ref())
	if err != nil || len(list) != 1 || list[0].Name != "a\nb" {
		t.Errorf("list: got %v, %v", list, err)
	}
}

func TestFileFromAnOffset(t *testing.T) {
	n := &shelf{data: bytes.Repeat([]byte("0123456789"), 300_000)}
	c := serve(t, n)
	for _, off := range []int64{0, 1, 2_999_999, 3_000_000, 4_000_000} {
		body, err := c.File(t.Context(), n.ref(), n.ref(), off)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		body.Close()
		want := n.data[min(off, int64(len(n.data))):]
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("from %d: got %d bytes, %v; want %d", off, len(got), err, len(want))
		}
	}
}

func TestFileThatEndsEarlyIsNoWholeFile(t *testing.T) {
	n := &shelf{data: make([]byte, 3<<20), cut: 1 << 20}
	c := serve(t, n)
	body, err := c.File(t.Context(), n.ref(), n.ref(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if n, err := io.Copy(io.Discard, body); err == nil {
		t.Errorf("got %d bytes and no error, want an error", n)
	}
}

func TestNoNode(t *testing.T) {
	c := Dial(filepath.Join(t.TempDir(), "none.sock"))
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoNode) {
		t.Errorf("got %v, want ErrNoNode", err)
	}
}

func TestErrorsHideWhatWasAsked(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	s, err := Listen(path, &shelf{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := Dial(path)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Search(ctx, "sesame"); err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("got %v, want an error without the query", err)
	}
}
