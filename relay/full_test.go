package relay_test

import (
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
)

// Where each cell waits for its turn, bytes that are written at once after
// others still go into full cells: pieces of four cells and a bit take no five.
func TestCellsAreFullAtALowRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := relaytest.New(relaytest.Config{
			Relays: 6, Latency: 10 * time.Millisecond,
			Shares: func(int) *relay.Shares { return relay.NewShares(up, true) },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		ctx := t.Context()
		w := &way{}
		if w.s, err = relay.NewSession(); err != nil {
			t.Fatal(err)
		}
		if w.pub, err = n.OwnBuilder(0).Build(ctx, n.Hops(1, 2)); err != nil {
			t.Fatal(err)
		}
		defer w.pub.Close()
		if w.listen, err = w.pub.Listen(ctx, w.s, w.join); err != nil {
			t.Fatal(err)
		}
		if w.read, err = n.Builder().Build(ctx, n.Hops(3, 4, 2)); err != nil {
			t.Fatal(err)
		}
		defer w.read.Close()
		r, p := w.meet(t, nil)
		go func() {
			for b := make([]byte, 64<<10+16); ; {
				if _, err := p.Write(b); err != nil {
					return
				}
			}
		}()
		read := func(size int) {
			for b := make([]byte, 16<<10); size > 0; {
				k, err := r.Read(b[:min(size, len(b))])
				if err != nil {
					t.Fatal(err)
				}
				size -= k
			}
		}
		read(2 << 20) // what was saved up
		start := time.Now()
		read(8 << 20)
		got := 8 << 20 / time.Since(start).Seconds()
		const session = up / 2 * 3 / 4
		t.Logf("%.0f of %d bytes/s", got, session)
		if got < 0.9*session { // measured 0.94 to 0.96; 0.77 with five cells instead of four
			t.Errorf("%.0f bytes/s of payload, want most of %d", got, session)
		}
	})
}
