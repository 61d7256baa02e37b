package chunk

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// readStep is how much of a file, in bytes, is read before it is hashed: what
// stays in a core's own cache. Ours; any value works.
const readStep = 128 << 10

// ErrChanged says that a file was shorter than it should be: it was changed
// while it was read. Try again later.
var ErrChanged = errors.New("file changed while it was read")

// ImportFile computes the UnixFS tree of the first size bytes of src, hashing
// on all cores. It keeps no content: memory is constant but for the links of
// one node a level. s may be nil. A source that ends before size gives
// ErrChanged.
func ImportFile(ctx context.Context, src io.ReaderAt, size int64, s Sink) (Entry, error) {
	return profile.file(ctx, src, size, s, runtime.GOMAXPROCS(0))
}

func (sh shape) file(ctx context.Context, src io.ReaderAt, size int64, s Sink, workers int) (Entry, error) {
	if size < 0 {
		return Entry{}, errors.New("negative size")
	}
	b := &builder{shape: sh, sink: s}
	count := max(1, (size+sh.size-1)/sh.size)
	length := func(i int64) int64 { return min(sh.size, size-i*sh.size) }
	workers = int(min(int64(workers), count))
	if workers < 2 {
		h := newHasher()
		for i := range count {
			ref, err := h.leaf(ctx, src, i*sh.size, length(i))
			if err != nil {
				return Entry{}, err
			}
			if err := b.leaf(ref, length(i)); err != nil {
				return Entry{}, err
			}
		}
		return b.finish()
	}

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	jobs := make(chan *job)             // closed by the feeder
	queue := make(chan *job, 4*workers) // the same jobs in order; closed by the feeder
	wg.Go(func() {
		defer close(queue)
		defer close(jobs)
		for i := range count {
			j := &job{index: i, done: make(chan struct{})}
			select {
			case queue <- j:
			case <-ctx.Done():
				return
			}
			select {
			case jobs <- j:
			case <-ctx.Done():
				return
			}
		}
	})
	for range workers {
		wg.Go(func() {
			h := newHasher()
			for j := range jobs {
				j.ref, j.err = h.leaf(ctx, src, j.index*sh.size, length(j.index))
				close(j.done)
			}
		})
	}
	return collect(ctx, b, queue, count, length)
}

// job is one leaf to hash. ref and err may be read when done is closed.
type job struct {
	index int64
	buf   []byte // of ImportReader
	n     int
	ref   Ref
	err   error
	done  chan struct{}
}

// collect adds the leaves in order.
func collect(ctx context.Context, b *builder, queue <-chan *job, count int64, length func(int64) int64) (Entry, error) {
	for i := range count {
		var j *job
		select {
		case j = <-queue:
		case <-ctx.Done():
		}
		if j == nil {
			return Entry{}, ctx.Err()
		}
		select {
		case <-j.done:
		case <-ctx.Done():
			return Entry{}, ctx.Err()
		}
		if j.err != nil {
			return Entry{}, j.err
		}
		if err := b.leaf(j.ref, length(i)); err != nil {
			return Entry{}, err
		}
	}
	return b.finish()
}

// hasher hashes leaves with a buffer of its own.
type hasher struct {
	h   hash.Hash
	buf []byte
	sum []byte
}

func newHasher() *hasher { return &hasher{h: sha256.New()} }

func (h *hasher) leaf(ctx context.Context, src io.ReaderAt, off, n int64) (Ref, error) {
	if h.buf == nil {
		h.buf = make([]byte, min(readStep, max(n, 1)))
	}
	h.h.Reset()
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return Ref{}, err
		}
		want := h.buf[:min(n, int64(len(h.buf)))]
		got, err := src.ReadAt(want, off)
		if got < len(want) {
			if err == nil || errors.Is(err, io.EOF) {
				err = ErrChanged
			}
			return Ref{}, fmt.Errorf("read file: %w", err)
		}
		h.h.Write(want)
		off, n = off+int64(got), n-int64(got)
	}
	h.sum = h.h.Sum(h.sum[:0])
	return digestRef(cid.Raw, h.sum), nil
}

// digestRef returns the Ref with a sha2-256 digest.
func digestRef(codec uint64, digest []byte) Ref {
	var mh [2 + sha256.Size]byte
	mh[0], mh[1] = multihash.SHA2_256, sha256.Size
	copy(mh[2:], digest)
	return Ref{cid.NewCidV1(codec, mh[:])}
}

// ImportReader computes the UnixFS tree of all that src gives, reading it once,
// hashing on all cores with a few leaves in memory. s may be nil. Cancelling
// ctx does not interrupt a Read of src that blocks.
func ImportReader(ctx context.Context, src io.Reader, s Sink) (Entry, error) {
	return profile.stream(ctx, src, s, runtime.GOMAXPROCS(0))
}

func (sh shape) stream(ctx context.Context, src io.Reader, s Sink, workers int) (Entry, error) {
	b := &builder{shape: sh, sink: s}
	free := make([][]byte, 0, workers+1)
	made := 0
	jobs := make(chan *job)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(jobs)
	for range workers {
		wg.Go(func() {
			for j := range jobs {
				j.ref = Raw(j.buf[:j.n])
				close(j.done)
			}
		})
	}
	var pending []*job // in order
	take := func() error {
		j := pending[0]
		pending = pending[1:]
		<-j.done
		free = append(free, j.buf)
		return b.leaf(j.ref, int64(j.n))
	}
	for end := false; !end; {
		if err := ctx.Err(); err != nil {
			return Entry{}, err
		}
		var buf []byte
		switch {
		case len(free) > 0:
			buf, free = free[len(free)-1], free[:len(free)-1]
		case made <= workers:
			buf = make([]byte, sh.size)
			made++
		default:
			if err := take(); err != nil {
				return Entry{}, err
			}
			continue
		}
		n, err := io.ReadFull(src, buf)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			end = true
			if n == 0 && b.off+int64(len(pending)) > 0 {
				continue // the leaf before was the last one
			}
		default:
			return Entry{}, fmt.Errorf("read source: %w", err)
		}
		j := &job{buf: buf, n: n, done: make(chan struct{})}
		jobs <- j
		pending = append(pending, j)
	}
	for len(pending) > 0 {
		if err := take(); err != nil {
			return Entry{}, err
		}
	}
	return b.finish()
}
