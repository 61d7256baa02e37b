package node

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// supply is set-up packets that were made before they are needed: who floods a
// relay with them has had all the time for it.
type supply struct {
	packets [][]byte
	next    atomic.Int64
}

// prepare makes N packets anew.
func (s *supply) prepare(q crowdAsk) error {
	hops, err := parseHops(q.Ways[0])
	if err != nil {
		return err
	}
	s.packets = make([][]byte, q.N)
	s.next.Store(0)
	errs := make([]error, q.N)
	each(q.At, q.N, func(i int) { s.packets[i], _, errs[i] = wire.NewSetup(crowdNetwork, hops) })
	return errors.Join(errs...)
}

// take gives a packet; when all were taken, the first comes again.
func (s *supply) take() []byte {
	return s.packets[(s.next.Add(1)-1)%int64(len(s.packets))]
}

// flooding is a flood that is under way.
type flooding struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	sent   atomic.Int64
	passed atomic.Int64 // where who floods can tell
	after  []func()     // what end does when all have stopped
}

func newFlooding() *flooding {
	f := &flooding{}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// each runs do in the name of a user, perSecond times in all by as many
// goroutines, and does not make up for what a busy machine left out for longer
// than a quarter of a second.
func (f *flooding) each(perSecond float64, goroutines int, do func()) {
	pace := rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/4)))
	for range goroutines {
		f.wg.Go(func() {
			for pace.Wait(f.ctx) == nil {
				do()
			}
		})
	}
}

// end stops it, and tells how many were sent and how many of them passed.
func (f *flooding) end() (sent, passed int) {
	f.cancel()
	f.wg.Wait()
	for _, do := range f.after {
		do()
	}
	return int(f.sent.Load()), int(f.passed.Load())
}

// startFlood begins Rate circuits a second in the name of each user. By kind
// they carry a valid packet, made before; garbage; the half of a packet, or
// nothing; or all of these in turn.
func (u *users) startFlood(q crowdAsk) (*flooding, error) {
	hops, err := parseHops(q.Ways[0])
	if err != nil {
		return nil, err
	}
	garbage := make([]byte, wire.FrameSize)
	rand.Read(garbage)
	garbage[0] = wire.Version
	packet := func(n int64) []byte {
		kind := q.Kind
		if kind == "all" {
			kind = []string{"valid", "garbage", "half"}[n%3]
		}
		switch kind {
		case "valid":
			return u.valid.take()
		case "garbage":
			return garbage
		}
		return garbage[:n%2*int64(len(garbage)/2)]
	}
	f := newFlooding()
	for _, t := range u.hosts {
		open := make(chan relay.Link, 300)
		f.each(q.Rate, q.At, func() {
			l, err := neighbours{t: t}.Dial(f.ctx, hops[0])
			if err != nil {
				return
			}
			n := f.sent.Add(1)
			l.SetWriteDeadline(time.Now().Add(5 * time.Second))
			l.Write(packet(n))
			for {
				select {
				case open <- l:
					return
				case oldest := <-open:
					oldest.Reset()
				}
			}
		})
		f.after = append(f.after, func() {
			close(open)
			for l := range open {
				l.Reset()
			}
		})
	}
	return f, nil
}
