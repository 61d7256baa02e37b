package node

import (
	"bytes"
	"context"
	"testing"
	"time"

	"wanderfs/relay/wire"
)

// Relays that carry a read die one after the other, and the read goes on.
func TestReadSurvivesRelays(t *testing.T) {
	if testing.Short() {
		t.Skip("takes many seconds")
	}
	t.Parallel()
	first := labNode(t, nil, nil)
	boot := first.Status().Addrs
	byID := make(map[wire.NodeID]*Node)
	for range 11 {
		n := labNode(t, boot, nil)
		byID[n.mesh.t.id] = n
	}
	hidden := func(c *Config) { c.Reachability = Private }
	pub := labNode(t, boot, func(c *Config) { hidden(c); c.UpLimit = 11 << 20 /* a session: 4 */ })
	reader := labNode(t, boot, hidden)
	content, ref := shareFile(t, pub, "x.bin", 24<<20)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	type result struct {
		b   []byte
		err error
	}
	done := make(chan result, 1)
	begin := time.Now()
	go func() {
		b, err := readAll(ctx, reader, ref)
		done <- result{b, err}
	}()
	killed := 0
	for killed < 3 && len(done) == 0 {
		eventually(t, patience, "a reading path in use", func() bool {
			if len(done) > 0 {
				return true
			}
			reader.paths.mu.Lock()
			defer reader.paths.mu.Unlock()
			for p := range reader.paths.live {
				if in, _ := p.Traffic(); p.purpose != purposeRead || in < 1<<20 || p.Err() != nil {
					continue
				}
				var n *Node
				for i := range 3 { // the entry first, then the second, then the third
					if n = byID[p.hops[(killed+i)%3].Node]; n != nil {
						break
					}
				}
				if n == nil {
					continue
				}
				delete(byID, n.mesh.t.id)
				go n.Close()
				killed++
				return true
			}
			return false
		})
	}
	if killed == 0 {
		t.Error("the read was over before a relay died")
	}
	r := <-done
	if r.err != nil || !bytes.Equal(r.b, content) {
		t.Fatalf("got %d bytes and %v, want %d", len(r.b), r.err, len(content))
	}
	t.Logf("24 MiB in %v though %d relays died", time.Since(begin), killed)
}
