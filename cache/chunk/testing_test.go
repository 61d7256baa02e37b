package chunk

import (
	"context"
	"errors"
	"io"
	"sync"
)

// memory is a Getter and a Sink. It cuts leaves from src when it is read.
type memory struct {
	mu     sync.Mutex
	blocks map[Ref][]byte // guarded by mu
	gets   map[Ref]int    // guarded by mu; how often each was fetched
	src    []byte
	leaves int64 // end of the last leaf, in bytes
}

var errMissing = errors.New("no such block")

func newMemory(src []byte) *memory {
	return &memory{blocks: map[Ref][]byte{}, gets: map[Ref]int{}, src: src}
}

// newStore makes a memory that keeps nodes only.
func newStore() *memory { return newMemory(nil) }

func (m *memory) Node(r Ref, block []byte) error {
	if err := r.Verify(block); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blocks[r] = block
	return nil
}

func (m *memory) Leaf(r Ref, off, n int64) error {
	if m.src == nil {
		return nil
	}
	if off != m.leaves {
		return errors.New("leaves out of order")
	}
	m.leaves += n
	return m.Node(r, m.src[off:off+n])
}

func (m *memory) put(b []byte) Ref {
	r := PB(b)
	m.blocks[r] = b
	return r
}

func (m *memory) raw(b []byte) Ref {
	r := Raw(b)
	m.blocks[r] = b
	return r
}

func (m *memory) Get(ctx context.Context, r Ref) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets[r]++
	if b, ok := m.blocks[r]; ok {
		return b, ctx.Err()
	}
	return nil, errMissing
}

// ranged is a memory that can give parts, and counts the bytes it gave.
type ranged struct {
	*memory
	bytes int64
}

func (m *ranged) ReadRange(ctx context.Context, r Ref, p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.blocks[r]
	if !ok {
		return 0, errMissing
	}
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	m.bytes += int64(n)
	return n, nil
}

// formula returns n bytes that any implementation can make again: a 64-bit
// linear congruential generator (Knuth's MMIX), one byte a step, the highest.
func formula(seed uint64, n int) []byte {
	b := make([]byte, n)
	x := seed
	for i := range b {
		x = x*6364136223846793005 + 1442695040888963407
		b[i] = byte(x >> 56)
	}
	return b
}
