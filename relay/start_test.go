package relay_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
)

// What a read may take until its first byte, over seven links of 50 ms.
const (
	startLatency = 50 * time.Millisecond
	startSpare   = time.Second     // with a path that stands ready
	startCold    = 4 * time.Second // without a path, and without a connection
	startConnect = 2               // round trips of a new connection: TCP and TLS; nodes wait for nothing else
)

// parts are the times of a read's steps, one after the other.
type parts struct {
	lookUp time.Duration // a path of three relays, and two requests at its end
	build  time.Duration // the reading path
	join   time.Duration // the handshake with the session, the request in it
	first  time.Duration // until its first byte
}

func (p parts) total() time.Duration { return p.lookUp + p.build + p.join + p.first }

func (p parts) String() string {
	return fmt.Sprintf("look-up %v + build %v + join %v + first byte %v = %v", p.lookUp, p.build, p.join, p.first, p.total())
}

// asking is a far end that is not connected yet to the super node which knows:
// it dials it and asks.
type asking struct{ echo }

const askTakes = (startConnect + 1) * 2 * startLatency

func (a asking) Answer(ctx context.Context, req []byte) ([]byte, error) {
	time.Sleep(askTakes)
	return a.echo.Answer(ctx, req)
}

// startNet has six relays of a way and two of a look-up's path more, whose
// entry is the reader's, and a session that answers.
func startNet(t *testing.T) (*relaytest.Net, *way) {
	n := newNet(t, relaytest.Config{
		Relays: 8, Latency: startLatency, Rate: trialRate, Connect: startConnect,
		Far: func(int) relay.Far { return asking{} },
	})
	w := standing(t, n, 5, 4, 3)
	t.Cleanup(func() { w.pub.Close() })
	go func() {
		for {
			c, err := w.listen.Accept(context.Background())
			if err != nil {
				return
			}
			c.Write(append([]byte("answer to "), c.First()...))
			c.CloseWrite()
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	return n, w
}

// read joins with a request and checks the answer.
func (p *parts) read(t *testing.T, w *way, path *relay.Path) {
	start := time.Now()
	c, err := path.Join(t.Context(), w.s.Keys(), w.join, []byte("request"))
	if err != nil {
		t.Fatal(err)
	}
	p.join = time.Since(start)
	start = time.Now()
	got := make([]byte, len("answer to request"))
	if _, err := c.Read(got[:1]); err != nil {
		t.Fatal(err)
	}
	p.first = time.Since(start)
	if _, err := io.ReadFull(c, got[1:]); err != nil || string(got) != "answer to request" {
		t.Errorf("got %q and %v", got, err)
	}
	if n, err := c.Read(got); n != 0 || err != io.EOF {
		t.Errorf("at the end: got %d bytes and %v, want io.EOF", n, err)
	}
	c.Close()
}

// built builds a path that lives until the test ends.
func built(t *testing.T, b *relay.Builder, n *relaytest.Net, hops ...int) (*relay.Path, time.Duration) {
	start := time.Now()
	p, err := b.Build(t.Context(), n.Hops(hops...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, time.Since(start)
}

// TestStartSpare: over a path that stands ready a read starts in one round
// trip of seven links, as the request rides in the handshake.
func TestStartSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w := startNet(t)
		path, _ := built(t, n.Builder(), n, 0, 1, 2, 3)
		time.Sleep(5 * time.Minute) // as spare paths do
		var p parts
		p.read(t, w, path)
		t.Log(p)
		if got := p.total(); got > startSpare {
			t.Errorf("from a spare path: got %v, want at most %v", got, startSpare)
		}
		if got, least, most := p.total(), 14*startLatency, 15*startLatency; got < least || got > most {
			t.Errorf("from a spare path: got %v, want a round trip of seven links: %v to %v", got, least, most)
		}
	})
}

// TestStartCold: a reader who has no path, and whose relays are not connected
// to each other, dials four and joins. With a look-up before it, whose path is
// built as cold, it takes longer, and still not too long; a node keeps paths for
// look-ups ready.
func TestStartCold(t *testing.T) {
	const trip = 2 * startLatency
	for _, c := range []struct {
		name string
		look func(t *testing.T, b *relay.Builder, n *relaytest.Net) time.Duration
		want time.Duration
	}{
		{"source known", nil, 4*startConnect*trip + 4*trip + 7*trip},
		{"look-up over a spare path", func(t *testing.T, b *relay.Builder, n *relaytest.Net) time.Duration {
			path, _ := built(t, b, n, 0, 6, 7)
			return ask(t, path)
		}, 2*(3*trip+askTakes) + 3*startConnect*trip + 4*trip + 7*trip},
		{"look-up over a cold path", func(t *testing.T, b *relay.Builder, n *relaytest.Net) time.Duration {
			path, took := built(t, b, n, 0, 6, 7)
			return took + ask(t, path)
		}, 3*startConnect*trip + 3*trip + 2*(3*trip+askTakes) + 3*startConnect*trip + 4*trip + 7*trip},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, w := startNet(t)
			b := n.Builder()
			var p parts
			if c.look != nil {
				p.lookUp = c.look(t, b, n)
			}
			var path *relay.Path
			path, p.build = built(t, b, n, 0, 1, 2, 3)
			p.read(t, w, path)
			t.Logf("%s: %v", c.name, p)
			if got := p.total(); got > startCold {
				t.Errorf("%s: got %v, want at most %v", c.name, got, startCold)
			}
			// A frame takes 0.8 ms at a link's rate.
			if got, most := p.total(), c.want+60*time.Millisecond; got < c.want || got > most {
				t.Errorf("%s: got %v, want %v to %v", c.name, got, c.want, most)
			}
		})
	}
}

// ask does what a look-up does: it asks for the pointer, then for the group's
// record, which lie at different super nodes.
func ask(t *testing.T, p *relay.Path) time.Duration {
	start := time.Now()
	for range 2 {
		if _, err := p.Ask(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(start)
}
