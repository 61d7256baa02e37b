package fetch

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache/chunk"
)

// Readers who ask for blocks and take none fill no memory, and do not keep it
// from one who reads.
func TestStalledReadersKeepNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := bytes.Repeat([]byte("b"), 1<<20)
		s := &Server{Held: 8, Blocks: blocksFunc(func(context.Context, chunk.Ref) ([]byte, error) { return block, nil })}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		open := func() net.Conn {
			near, far := net.Pipe()
			wg.Go(func() { s.Serve(ctx, far, nil) })
			return near
		}
		ask := func(conn net.Conn) {
			for i := range 6 {
				conn.Write(get(uint32(i), chunk.Raw([]byte{byte(i)}), 0, wholeLength))
			}
		}
		for range 40 {
			ask(open())
		}
		synctest.Wait()
		if got := len(s.held.room); got != 8 {
			t.Errorf("%d blocks in memory, want 8", got)
		}
		reader := open()
		wg.Go(func() { ask(reader) })
		start := time.Now()
		for range 6 {
			if _, got := readAnswer(t, reader); len(got) != len(block) {
				t.Fatalf("got %d bytes", len(got))
			}
		}
		if took := time.Since(start); took > time.Minute { // there are 40 before it
			t.Errorf("who reads waited %v", took)
		}
		reader.Close()
		cancel()
		wg.Wait()
		if got := len(s.held.room); got != 0 {
			t.Errorf("%d blocks are still counted", got)
		}
	})
}
