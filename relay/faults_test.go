package relay_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/relaytest"
	"wanderfs/relay/wire"
)

// trial is a reader and a publisher in use, whose six relays stand between
// seven links:
//
//	reader -0- r1 -1- r2 -2- r3 -3- G -4- p2 -5- p1 -6- publisher
//	           [0]    [1]    [2]    [3]   [4]    [5]
//
// Links 0 to 3 are dialled from the reader's side, the others from the
// publisher's. Down is towards the reader. Time is virtual.
type trial struct {
	t     *testing.T
	net   *relaytest.Net
	links [7]*relaytest.Faulty
	way   *way
	r, p  *relay.Conn

	over    chan struct{} // ends those who write
	got     atomic.Int64  // bytes that the reader got, all of them right
	wrong   error         // a byte that was not
	read    error         // how the reader's stream ended
	readAt  time.Time
	stopped chan struct{} // closed by who reads
}

const (
	trialLatency = 20 * time.Millisecond
	trialRate    = 20_000_000            // bytes a second of each link
	trialPart    = 5 * wire.RecordSize   // bytes that are sent at a time, as a film is
	trialPause   = 50 * time.Millisecond // between them
	trialGoal    = 2 * time.Second       // until a failing relay must be noticed
)

// newTrial makes both ends and lets them talk until the way has settled. With
// bulk the publisher sends all that the way takes.
func newTrial(t *testing.T, bulk bool, adjust func(*relay.Builder)) *trial {
	return newTrialOver(t, relaytest.Config{Latency: trialLatency, Rate: trialRate}, 0, bulk, adjust)
}

// newTrialOver does that where both paths have been quiet for some time before.
func newTrialOver(t *testing.T, cfg relaytest.Config, quiet time.Duration, bulk bool, adjust func(*relay.Builder)) *trial {
	x := &trial{t: t, over: make(chan struct{}), stopped: make(chan struct{})}
	dialler := [6]int{1, 2, 3, -1, 4, 5}
	for i := range x.links {
		x.links[i] = &relaytest.Faulty{Pause: 500 * time.Millisecond}
	}
	i := 0
	cfg.Adjust = func(c *relay.Config) {
		if j := dialler[i]; j >= 0 {
			x.links[j].Network = c.Network
			c.Network = x.links[j]
		}
		i++
	}
	n, err := relaytest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	x.net = n
	t.Cleanup(func() { n.Close() })
	path := func(link int, hops ...int) *relay.Path {
		b := n.Builder()
		x.links[link].Network = b.Network
		b.Network = x.links[link]
		if adjust != nil {
			adjust(b)
		}
		p, err := b.Build(testContext(t), n.Hops(hops...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	x.way = &way{join: [32]byte{1}, pub: path(6, 5, 4, 3), read: path(0, 0, 1, 2, 3)}
	if x.way.s, err = relay.NewSession(); err != nil {
		t.Fatal(err)
	}
	if x.way.listen, err = x.way.pub.Listen(testContext(t), x.way.s, x.way.join); err != nil {
		t.Fatal(err)
	}
	time.Sleep(quiet)
	x.r, x.p = x.way.meet(t, nil)
	go x.send(x.p, 1, bulk)
	go x.send(x.r, 2, false)
	go io.Copy(io.Discard, x.p)
	go x.receive()
	time.Sleep(time.Second)
	return x
}

func (x *trial) send(c *relay.Conn, seed byte, bulk bool) {
	src := mrand.NewChaCha8([32]byte{seed})
	b := make([]byte, trialPart)
	for {
		src.Read(b)
		if _, err := c.Write(b); err != nil {
			return
		}
		if !bulk {
			select {
			case <-time.After(trialPause):
			case <-x.over:
				return
			}
		}
	}
}

func (x *trial) receive() {
	defer close(x.stopped)
	src := mrand.NewChaCha8([32]byte{1})
	got, want := make([]byte, trialPart), make([]byte, trialPart)
	src.Read(want)
	at := 0
	for {
		k, err := x.r.Read(got[:len(want)-at])
		if !bytes.Equal(got[:k], want[at:at+k]) && x.wrong == nil {
			x.wrong = fmt.Errorf("a wrong byte after %d right ones", x.got.Load())
		}
		x.got.Add(int64(k))
		if at += k; at == len(want) {
			src.Read(want)
			at = 0
		}
		if err != nil {
			x.read, x.readAt = err, time.Now()
			return
		}
	}
}

// toReader gives the link and direction in which a relay sends to the reader, toPublisher
// those to the publisher.
func toReader(k int) (link, dir int) {
	if k <= 3 {
		return k, relaytest.In
	}
	return k, relaytest.Out
}

func toPublisher(k int) (link, dir int) {
	if k < 3 {
		return k + 1, relaytest.Out
	}
	return k + 1, relaytest.In
}

// freeze makes a relay take everything and let nothing go on, not even the end
// of a link.
func (x *trial) freeze(k int) {
	for _, l := range x.links[k : k+2] {
		l.Do(relaytest.In, relaytest.Mute)
		l.Do(relaytest.Out, relaytest.Mute)
	}
}

// await gives how long after start a path was over; false if that takes
// longer than most.
func await(p *relay.Path, start time.Time, most time.Duration) (time.Duration, bool) {
	select {
	case <-p.Done():
		return time.Since(start), true
	case <-time.After(time.Until(start.Add(most))):
		return most, false
	}
}

// check ends both ends, and finds that no wrong byte was read and that within
// the time no relay holds anything any more.
func (x *trial) check(what string, freed time.Duration) {
	x.t.Helper()
	start := time.Now()
	close(x.over)
	x.way.read.Close()
	x.way.pub.Close()
	<-x.stopped
	if x.wrong != nil {
		x.t.Errorf("%s: %v", what, x.wrong)
	}
	synctest.Wait()
	for i := range 6 {
		r := x.net.Relay(i)
		for r.Stats().Circuits > 0 && time.Since(start) < freed {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		if got := r.Stats().Circuits; got != 0 {
			x.t.Errorf("%s: relay %d has %d circuits after %v", what, i, got, freed)
		}
		if got := relay.Held(r); got != 0 {
			x.t.Errorf("%s: relay %d holds %d frames", what, i, got)
		}
	}
}

// TestFaultNone: where nothing goes wrong nothing ends, for any of the
// publisher's rates.
func TestFaultNone(t *testing.T) {
	for _, bulk := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			x := newTrial(t, bulk, nil)
			before := x.got.Load()
			time.Sleep(2 * trialGoal)
			if x.way.read.Err() != nil || x.way.pub.Err() != nil || x.got.Load() <= before {
				t.Errorf("bulk %v: paths ended with %v and %v, %d bytes more", bulk, x.way.read.Err(), x.way.pub.Err(), x.got.Load()-before)
			}
			x.check("no fault", time.Second)
		})
	}
}

// TestFaultSlow: slow and long ways are not taken for frozen ones, though all
// that the publisher has is in front of its sign of life.
func TestFaultSlow(t *testing.T) {
	for _, rate := range []int64{200_000, 1_000_000} {
		for _, latency := range []time.Duration{trialLatency, 150 * time.Millisecond} {
			what := fmt.Sprintf("%d KB/s, links of %v", rate/1000, latency)
			synctest.Test(t, func(t *testing.T) {
				x := newTrialOver(t, relaytest.Config{Latency: latency, Rate: rate, Shared: true}, 0, true, nil)
				time.Sleep(10 * time.Second)
				if x.way.read.Err() != nil || x.way.pub.Err() != nil {
					t.Errorf("%s: paths ended with %v and %v", what, x.way.read.Err(), x.way.pub.Err())
				}
				if got, least := x.got.Load(), rate*7; got < least {
					t.Errorf("%s: got %d bytes, want at least %d", what, got, least)
				}
				x.check(what, 2*time.Minute)
			})
		}
	}
}

// TestFaultFrames: each relay, in each direction, corrupts, replays or
// reorders. The half of the way that it belongs to ends as soon as the frame
// reaches who verifies it, on all its relays.
func TestFaultFrames(t *testing.T) {
	for f, name := range map[relaytest.Fault]string{relaytest.Corrupt: "corrupt", relaytest.Replay: "replay", relaytest.Reorder: "reorder"} {
		for _, down := range []bool{true, false} {
			for k := range 6 {
				what := fmt.Sprintf("%s at relay %d, to the reader %v", name, k, down)
				synctest.Test(t, func(t *testing.T) {
					x := newTrial(t, false, nil)
					link, dir := toPublisher(k)
					readers := k <= 2
					if down {
						link, dir = toReader(k)
						readers = k <= 3
					}
					half, other := x.way.pub, x.way.read
					if readers {
						half, other = other, half
					}
					start := time.Now()
					x.links[link].Do(dir, f)
					took, ok := await(half, start, trialGoal)
					if !ok {
						t.Errorf("%s: not noticed in %v", what, took)
					}
					// A frame of those under way, or of the next part, and
					// its way to who verifies it.
					if most := trialPause + 7*(trialLatency+2*time.Millisecond); took > most {
						t.Errorf("%s: noticed after %v, want at most %v", what, took, most)
					}
					time.Sleep(7 * trialLatency)
					synctest.Wait()
					if got, want := x.links[link].Done(), 1; got != want {
						t.Errorf("%s: happened %d times, want %d", what, got, want)
					}
					if other.Err() != nil {
						t.Errorf("%s: the other half ended, too: %v", what, other.Err())
					}
					if x.read == nil || errors.Is(x.read, io.EOF) {
						t.Errorf("%s: the reader's stream ended with %v", what, x.read)
					} else if !readers && !errors.Is(x.read, relay.ErrReset) {
						t.Errorf("%s: the reader's stream ended with %v, want %v", what, x.read, relay.ErrReset)
					}
					for i := range 6 {
						want := 1
						if readers && i < 3 || !readers && i > 3 {
							want = 0
						}
						if got := x.net.Relay(i).Stats().Circuits; got != want {
							t.Errorf("%s: relay %d has %d circuits, want %d", what, i, got, want)
						}
					}
					t.Logf("%s: path over after %v, the reader's stream after %v", what, took.Round(time.Microsecond), x.readAt.Sub(start).Round(time.Microsecond))
					x.check(what, time.Second)
				})
			}
		}
	}
}

// TestFaultDeath: a relay dies; both ends know it as soon as the news has come
// through the other relays.
func TestFaultDeath(t *testing.T) {
	for k := range 6 {
		what := fmt.Sprintf("death of relay %d", k)
		synctest.Test(t, func(t *testing.T) {
			x := newTrial(t, false, nil)
			start := time.Now()
			x.net.Kill(k)
			half := x.way.read
			if k > 3 {
				half = x.way.pub
			}
			took, ok := await(half, start, trialGoal)
			if most := 7 * trialLatency; !ok || took > most {
				t.Errorf("%s: noticed after %v, want at most %v", what, took, most)
			}
			<-x.stopped
			if took := x.readAt.Sub(start); took > 7*trialLatency || x.read == io.EOF {
				t.Errorf("%s: the stream ended after %v with %v", what, took, x.read)
			}
			t.Logf("%s: path over after %v, the reader's stream after %v", what, took, x.readAt.Sub(start))
			x.check(what, time.Second)
		})
	}
}

// TestFaultFreeze: a relay takes everything and passes nothing on. The end
// whose half it belongs to asks for a sign of life and gives the path up in
// time, in a film's rate as at full rate; behind the frozen relay, where
// nobody hears of that, relays' own patience frees what is held.
func TestFaultFreeze(t *testing.T) {
	const idle = time.Minute // relay.Limits.Idle
	for _, bulk := range []bool{false, true} {
		for k := range 6 {
			what := fmt.Sprintf("relay %d frozen, bulk %v", k, bulk)
			synctest.Test(t, func(t *testing.T) {
				x := newTrial(t, bulk, nil)
				start := time.Now()
				x.freeze(k)
				for _, h := range []struct {
					name string
					p    *relay.Path
					in   bool
				}{{"the reader", x.way.read, k <= 3}, {"the publisher", x.way.pub, k >= 3}} {
					if !h.in {
						continue
					}
					took, ok := await(h.p, start, 2*trialGoal)
					if !ok || took > trialGoal || !errors.Is(h.p.Err(), relay.ErrDead) {
						t.Errorf("%s: %s noticed after %v: %v", what, h.name, took, h.p.Err())
					}
					t.Logf("%s: %s noticed after %v", what, h.name, took.Round(time.Microsecond))
				}
				if k != 3 { // the other half has only the gateway to tell it
					before := x.got.Load()
					time.Sleep(time.Until(start.Add(idle + trialGoal)))
					synctest.Wait()
					if k > 3 && x.got.Load() != before {
						t.Errorf("%s: %d bytes came after that", what, x.got.Load()-before)
					}
					if k > 3 && !errors.Is(x.read, relay.ErrReset) {
						t.Errorf("%s: the reader's stream ended with %v, want %v", what, x.read, relay.ErrReset)
					}
					if _, err := x.p.Write(make([]byte, 1)); err == nil {
						t.Errorf("%s: the publisher's stream lives on", what)
					}
				}
				x.check(what, 2*idle)
			})
		}
	}
}

// TestFaultAfterQuiet: nor does it take longer where the paths were ready and
// unused for long before the stream, so that they hardly ask for signs of life.
func TestFaultAfterQuiet(t *testing.T) {
	for _, bulk := range []bool{false, true} {
		for _, k := range []int{1, 4} { // one of each half
			synctest.Test(t, func(t *testing.T) {
				x := newTrialOver(t, relaytest.Config{Latency: trialLatency, Rate: trialRate}, 5*time.Minute, bulk, nil)
				half := x.way.read
				if k > 3 {
					half = x.way.pub
				}
				start := time.Now()
				x.freeze(k)
				if took, ok := await(half, start, 10*trialGoal); !ok || took > trialGoal {
					t.Errorf("relay %d frozen, bulk %v: noticed after %v, want %v at most", k, bulk, took, trialGoal)
				}
				x.check("after quiet", 2*time.Minute)
			})
		}
	}
}

// TestOverdue: a path over a silent relay is known to be in doubt well before it
// is given up, and one that lives is not.
func TestOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTrial(t, false, nil)
		for range 100 {
			if x.way.read.Overdue() || x.way.pub.Overdue() {
				t.Error("a path that lives is in doubt")
			}
			time.Sleep(50 * time.Millisecond)
		}
		x.freeze(1)
		time.Sleep(trialGoal * 3 / 4)
		if x.way.read.Err() != nil || !x.way.read.Overdue() {
			t.Errorf("after %v: ended with %v, in doubt: %v", trialGoal*3/4, x.way.read.Err(), x.way.read.Overdue())
		}
		x.check("in doubt", 2*time.Minute)
	})
}

// TestResetWaitsForNothing: who has given up a path that brings nothing is rid
// of it at once.
func TestResetWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTrial(t, true, nil)
		x.freeze(2)
		start := time.Now()
		x.way.read.Reset()
		x.way.read.Close()
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v", took)
		}
		if err := x.way.read.Err(); !errors.Is(err, relay.ErrClosed) {
			t.Errorf("got %v, want %v", err, relay.ErrClosed)
		}
		x.check("reset", 2*time.Minute)
	})
}

// TestFaultUnasked: without asking for signs of life nobody notices.
func TestFaultUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTrial(t, false, func(b *relay.Builder) { b.Quiet, b.KeepAlive = 1<<40, 1<<40 })
		start := time.Now()
		x.freeze(1)
		if took, ok := await(x.way.read, start, 30*time.Second); ok {
			t.Errorf("noticed after %v: %v", took, x.way.read.Err())
		}
		x.check("not asked", 2*time.Minute)
	})
}

// TestFaultTrickle: a relay lets one frame through each half second, some 30
// KB/s. In time either the path is given up, or less comes than a crawl, an
// eighth of what came before: by that node/fetch leaves a route.
func TestFaultTrickle(t *testing.T) {
	const crawl = 8
	for k := range 6 {
		what := fmt.Sprintf("relay %d trickles", k)
		synctest.Test(t, func(t *testing.T) {
			x := newTrial(t, false, nil)
			const span = trialGoal / 4
			before := float64(x.got.Load()) // of the second before
			start := time.Now()
			link, dir := toReader(k)
			x.links[link].Do(dir, relaytest.Trickle)
			noticed := time.Duration(0)
			for last := x.got.Load(); noticed == 0 && time.Since(start) < trialGoal; last = x.got.Load() {
				time.Sleep(span)
				synctest.Wait()
				if float64(x.got.Load()-last)/span.Seconds() < before/crawl {
					noticed = time.Since(start)
				}
			}
			if noticed == 0 {
				t.Errorf("%s: comes as before, or nearly", what)
			}
			time.Sleep(trialGoal)
			t.Logf("%s: measured after %v; the paths' ends: %v, %v", what, noticed, x.way.read.Err(), x.way.pub.Err())
			x.check(what, 2*time.Minute)
		})
	}
}

// TestFaultLeavesNothing: after all kinds of faults goroutines and heap are as
// they were.
func TestFaultLeavesNothing(t *testing.T) {
	run := func() {
		for _, f := range []relaytest.Fault{relaytest.Corrupt, relaytest.Replay, relaytest.Reorder, relaytest.Trickle, relaytest.Mute} {
			synctest.Test(t, func(t *testing.T) {
				x := newTrial(t, false, nil)
				x.links[2].Do(relaytest.In, f)
				time.Sleep(trialGoal)
				x.check(fmt.Sprint("fault ", f), 2*time.Minute)
			})
		}
	}
	run()
	g1, h1 := left()
	for range 3 {
		run()
	}
	g2, h2 := left()
	t.Logf("%d goroutines, then %d; heap %d KiB, then %d", g1, g2, h1>>10, h2>>10)
	if g2 > g1 {
		t.Errorf("goroutines: %d, then %d", g1, g2)
	}
	if h2 > h1+1<<20 {
		t.Errorf("heap: %d KiB, then %d", h1>>10, h2>>10)
	}
}
