package fetch

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache/chunk"
)

// TestReadLocal reads without the network: nothing before it came, all after,
// and no cancelled context hides what is held.
func TestReadLocal(t *testing.T) {
	c := newContent(t, 3<<20+123, 21)
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, c.blocks)
		p.latency, p.rate = 10*time.Millisecond, 20e6
		within(t, Config{Store: newMemStore()}, []*publisher{p}, func(f *Fetcher) {
			x, err := f.Open(t.Context(), c.root, c.root)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			buf := make([]byte, 64<<10)
			before := p.bytes()
			if n, ok := x.ReadLocal(buf, 1<<20); ok || n != 0 {
				t.Errorf("before it came: got %d bytes, %t, want none", n, ok)
			}
			synctest.Wait()
			time.Sleep(time.Second)
			if got := p.bytes(); got != before {
				t.Errorf("%d bytes came for a local read, want none", got-before)
			}
			if err := c.readAll(t.Context(), f, 1<<20); err != nil {
				t.Fatal(err)
			}
			for off := int64(0); off < x.Size(); off += int64(len(buf)) {
				want := c.data[off:min(off+int64(len(buf)), x.Size())]
				if n, ok := x.ReadLocal(buf, off); !ok || !bytes.Equal(buf[:n], want) {
					t.Fatalf("at %d: got %d bytes, %t, want the %d that came", off, n, ok, len(want))
				}
			}
			if n, ok := x.ReadLocal(buf, x.Size()); !ok || n != 0 {
				t.Errorf("at the end: got %d bytes, %t, want 0, true", n, ok)
			}
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			task := f.Task(c.root)
			defer task.Release()
			if _, err := task.Get(cancelled, c.leaves[0]); err != nil {
				t.Errorf("held, but cancelled: got %v, want the block", err)
			}
			if _, err := task.ReadRange(cancelled, c.leaves[0], buf, 0); err != nil {
				t.Errorf("held, but cancelled: got %v, want its bytes", err)
			}
			if _, err := task.Get(cancelled, chunk.Raw([]byte("not held"))); err != context.Canceled {
				t.Errorf("not held and cancelled: got %v, want %v", err, context.Canceled)
			}
		})
	})
}
