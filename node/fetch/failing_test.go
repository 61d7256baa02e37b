package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache/chunk"
)

// fail makes all paths to p fail in one way, and refuse new ones.
func (p *publisher) fail(how string) {
	p.mu.Lock()
	p.refuse = how != "corrupts"
	p.mu.Unlock()
	p.each(func(h *half) {
		switch how {
		case "dies":
			h.close(io.ErrUnexpectedEOF)
		case "freezes":
			h.freeze(true)
		case "trickles":
			h.slow(3e3)
		}
	})
	if how == "corrupts" {
		p.forge(true)
	}
}

// slow changes the rate, also of what is under way.
func (h *half) slow(rate float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rate = rate
	now := time.Now()
	at := now.Add(h.latency)
	var queue []parcel
	for _, q := range h.queue { // in pieces of 1 KiB, as they trickle
		for b := q.b; len(b) > 0; {
			n := min(len(b), 1<<10)
			at = at.Add(time.Duration(float64(n) / rate * 1e9))
			queue = append(queue, parcel{at, b[:n]})
			b = b[n:]
		}
	}
	h.queue, h.free = queue, at.Add(-h.latency)
	h.cond.Broadcast()
}

// readThrough reads c in order, makes the first of pubs fail after three quarters, and
// returns the longest wait of a read from then on, and an error if one failed
// or gave wrong bytes. The reads are as fast as the paths: whatever fails is
// felt. Without defence a task neither watches its paths nor verifies.
func readThrough(t *testing.T, c *content, how string, defence bool, rates ...float64) (worst time.Duration, err error) {
	synctest.Test(t, func(t *testing.T) {
		var pubs []*publisher
		for _, rate := range rates {
			p := newPublisher(t, c.blocks)
			p.latency, p.rate = 350*time.Millisecond, rate // seven links of 50 ms
			pubs = append(pubs, p)
		}
		within(t, Config{Store: newMemStore(), unwatched: !defence}, pubs, func(f *Fetcher) {
			if !defence {
				f.hash = func(chunk.Ref, []byte) error { return nil }
			}
			x, oerr := f.Open(t.Context(), c.root, c.root)
			if oerr != nil {
				t.Fatal(oerr)
			}
			defer x.Close()
			buf := make([]byte, 128<<10)
			failed := false
			for off := 0; off < len(c.data); off += len(buf) {
				if !failed && off >= len(c.data)/4*3 {
					failed = true
					pubs[0].fail(how)
				}
				at := time.Now()
				n, rerr := x.ReadAt(t.Context(), buf, int64(off))
				if failed {
					worst = max(worst, time.Since(at))
				}
				if rerr != nil && rerr != io.EOF {
					err = rerr
					break
				}
				if !bytes.Equal(buf[:n], c.data[off:off+n]) {
					err = errFake
					break
				}
			}
			for _, p := range pubs { // what trickles would keep them for long
				p.each(func(h *half) { h.close(io.ErrUnexpectedEOF) })
			}
		})
	})
	return worst, err
}

// A path that dies, freezes, corrupts or trickles holds no reader up for more
// than two seconds where another one works, at 0.7 s of round trip, and every
// byte is right. Each defence is shown to matter.
func TestFailingPaths(t *testing.T) {
	c := newContent(t, 112<<20, 70)
	for _, how := range []string{"dies", "freezes", "corrupts", "trickles"} {
		for _, rates := range [][]float64{{8e6, 8e6}, {12e6, 4e6}, {4e6, 4e6, 4e6}} {
			t.Run(fmt.Sprint(how, rates), func(t *testing.T) {
				worst, err := readThrough(t, c, how, true, rates...)
				t.Logf("longest wait %v", worst)
				if err != nil || worst > 2*time.Second {
					t.Errorf("a read waited %v, want at most 2 s; %v", worst, err)
				}
			})
		}
		t.Run(how+", no defence", func(t *testing.T) {
			worst, err := readThrough(t, c, how, false, 8e6, 8e6)
			t.Logf("longest wait %v, %v", worst, err)
			switch {
			case how == "corrupts" && !errors.Is(err, errFake):
				t.Errorf("got %v, want wrong bytes", err)
			case how != "corrupts" && worst <= 2*time.Second:
				t.Errorf("waited only %v: what watches the paths is not needed", worst)
			}
		})
	}
}
