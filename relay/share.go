package relay

import (
	"context"

	"golang.org/x/time/rate"

	"wanderfs/relay/wire"
)

// Shares divides what a node may send between its own paths and the circuits
// of others: half each. Neither half ever lends to the other, used or not, and
// one session gets at most three quarters of its half. Else who loads a relay
// with circuits, and sees a session slow down, knows whose it is (Murdoch and
// Danezis, Low-cost traffic analysis of Tor, 2005).
//
// Where nothing is said about what a node may send, there is nothing to
// divide: then the machine and its line are shared as they come. What shares
// do not hide: two busy sessions of one node slow each other down, and so may
// work in the processor and a line slower than was said.
//
// A nil *Shares bounds nothing.
type Shares struct {
	own, relayed *rate.Limiter
	session      rate.Limit
}

// Part of the own share that one session may use.
const sessionPart = 0.75 // ours

// NewShares divides up bytes a second; 0 or less is no limit and gives nil. A
// node that relays nothing keeps all for itself.
func NewShares(up int64, relays bool) *Shares {
	if up <= 0 {
		return nil
	}
	part := rate.Limit(up)
	s := &Shares{}
	if relays {
		part /= 2
		s.relayed = sending(part)
	}
	s.own, s.session = sending(part), sessionPart*part
	return s
}

// sending gives a bucket for bytes: a quarter of a second, some frames at
// least.
func sending(r rate.Limit) *rate.Limiter {
	return rate.NewLimiter(r, max(int(min(float64(r)/4, 1<<30)), 4*wire.FrameSize))
}

// Relayed gives what all circuits of others may send together.
func (s *Shares) Relayed() *Budget {
	if s == nil || s.relayed == nil {
		return nil
	}
	return &Budget{[]*rate.Limiter{s.relayed}}
}

// Session gives what one session may send, on all its paths together, or a
// path that belongs to none.
func (s *Shares) Session() *Budget {
	if s == nil {
		return nil
	}
	return &Budget{[]*rate.Limiter{sending(s.session), s.own}}
}

// Budget bounds what is sent in one name. Nil bounds nothing. It is safe for
// concurrent use.
type Budget struct{ limits []*rate.Limiter }

// Wait waits until n bytes may be sent, or for ctx, whose error it gives.
func (b *Budget) Wait(ctx context.Context, n int) error {
	if b == nil {
		return nil
	}
	for _, l := range b.limits {
		for left := n; left > 0; {
			now := min(left, l.Burst())
			if err := l.WaitN(ctx, now); err != nil {
				return err
			}
			left -= now
		}
	}
	return nil
}
