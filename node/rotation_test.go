package node

import (
	"bytes"
	"io"
	"testing"
	"time"
)

// Both ends rotate their sessions while content is read, and the read goes on. A reading task shows one session at a time, with
// at most four paths.
func TestRotationDuringARead(t *testing.T) {
	if testing.Short() {
		t.Skip("takes many seconds")
	}
	t.Parallel()
	const life = 20 * time.Second
	boot := labNet(t, 8)
	hidden := func(c *Config) { c.Reachability = Private; c.SessionLife = life }
	pub := labNode(t, boot, func(c *Config) { hidden(c); c.UpLimit = 6 << 20 /* a session: 3/8 */ })
	reader := labNode(t, boot, hidden)
	content, ref := shareFile(t, pub, "x.bin", 80<<20)

	f, err := reader.Open(t.Context(), ref, ref)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const start = 8 << 20 // until all paths are in use
	var longest time.Duration
	seen := map[string]map[string]bool{roleReader: {}, rolePublisher: {}}
	buf := make([]byte, 128<<10)
	enough := int64(len(content)) // some more after both have rotated
	for off := int64(0); off < enough; {
		begin := time.Now()
		n, err := f.ReadAt(t.Context(), buf, off)
		if off > start {
			longest = max(longest, time.Since(begin))
		}
		if err != nil && err != io.EOF {
			t.Fatalf("at %d: %v", off, err)
		}
		if !bytes.Equal(buf[:n], content[off:off+int64(n)]) {
			t.Fatal("wrong bytes")
		}
		off += int64(n)
		if enough == int64(len(content)) && len(seen[roleReader]) > 1 && len(seen[rolePublisher]) > 1 {
			enough = min(enough, off+10<<20)
		}
		current := 0
		for _, s := range append(reader.Status().Sessions, pub.Status().Sessions...) {
			seen[s.Role][s.Number] = true
			if s.Role == roleReader && !s.Draining {
				current++
			}
			if s.ExpiresIn > int64(life*3/2/time.Second) {
				t.Errorf("a session of %d s", s.ExpiresIn)
			}
		}
		if current > 1 {
			t.Fatalf("one reading task shows %d sessions", current)
		}
		reader.reads.mu.Lock()
		for _, s := range reader.reads.tasks {
			if len(s.open) > maxReadPaths {
				t.Errorf("a session with %d paths", len(s.open))
			}
		}
		reader.reads.mu.Unlock()
	}
	t.Logf("%d reading and %d publishing sessions, longest wait %v", len(seen[roleReader]), len(seen[rolePublisher]), longest)
	if longest > 3500*time.Millisecond { // seen are 0.8 to 1.9 s; see TestRotationWhole
		t.Errorf("a read waited %v", longest)
	}
	for role, numbers := range seen {
		if len(numbers) < 2 {
			t.Errorf("%d sessions as %s during the read: nothing rotated", len(numbers), role)
		}
	}
}
