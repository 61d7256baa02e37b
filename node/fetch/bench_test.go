package fetch

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"wanderfs/cache/chunk"
	"wanderfs/relay/wire"
)

// socketRoute is a Route over a pair of unix sockets.
type socketRoute struct {
	b       Blocks
	session wire.SessionNumber
	wg      sync.WaitGroup
}

func (s *socketRoute) Session() wire.SessionNumber { return s.session }

func (s *socketRoute) Gateway() (id wire.NodeID) { return id }

func (s *socketRoute) Dial(_ context.Context, first []byte) (io.ReadWriteCloser, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		ends[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	s.wg.Go(func() { _ = (&Server{Blocks: s.b}).Serve(context.Background(), ends[1], first) })
	return ends[0], nil
}

// dropStore keeps nothing, but says that it did.
type dropStore struct{ noStore }

func (dropStore) Put(chunk.Ref, []byte) error { return nil }

func benchmarkRead(b *testing.B, size, piece int, store func() Store) {
	c := newContent(b, size, 30)
	p := newPublisher(b, c.blocks)
	route := &socketRoute{b: p}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	buf := make([]byte, piece)
	b.ResetTimer()
	for range b.N {
		f := New(Config{Finder: found(route), Store: store(), Routes: 1})
		x, err := f.Open(b.Context(), c.root, c.root)
		if err != nil {
			b.Fatal(err)
		}
		for off := 0; off < size; off += piece {
			if n, err := x.ReadAt(b.Context(), buf, int64(off)); n != piece {
				b.Fatal(err)
			}
		}
		x.Close()
		f.Close()
	}
	route.wg.Wait()
}

func BenchmarkReadFile128K(b *testing.B) {
	benchmarkRead(b, 256<<20, 128<<10, func() Store { return dropStore{} })
}

func BenchmarkReadFile1M(b *testing.B) {
	benchmarkRead(b, 256<<20, 1<<20, func() Store { return dropStore{} })
}

func BenchmarkReadMemStore(b *testing.B) {
	benchmarkRead(b, 256<<20, 128<<10, func() Store { return newMemStore() })
}
