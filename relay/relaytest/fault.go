package relaytest

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// Fault is what a relay does wrong to frames in one direction of a link.
type Fault int

// The faults. A relay that does one of them does all else as it should.
const (
	None    Fault = iota
	Corrupt       // one bit of the next frame
	Replay        // the next frame comes twice, the second time instead of the one after it
	Reorder       // the next frame comes after the one that follows it
	Trickle       // each frame takes Faulty.Pause
	Mute          // frames are taken and none goes on; nor does an end of the link
)

// Faulty is a Network whose links do something wrong once they are told to.
// From the side of who dials it is the same whether he or the other end does
// it. It is safe for concurrent use.
type Faulty struct {
	relay.Network
	Pause time.Duration // see Trickle; must not change once it is used

	mu    sync.Mutex
	fault [2]Fault    // guarded by mu
	only  wire.NodeID // links to others do no wrong; zero: all do; guarded by mu
	done  int         // faults that happened; guarded by mu
}

// Directions of a link, as who dialled it sees them.
const (
	Out = iota // what he writes
	In         // what he reads
)

// Do makes all links do wrong in one direction from now on; those faults that
// are of one frame happen once.
func (n *Faulty) Do(dir int, f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault[dir] = f
}

// Only makes links to all relays but one do no wrong.
func (n *Faulty) Only(to wire.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.only = to
}

// Done tells how often frames were altered, or a Mute or Trickle met one.
func (n *Faulty) Done() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.done
}

func (n *Faulty) is(dir int, to wire.NodeID) Fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.only.IsZero() && n.only != to {
		return None
	}
	return n.fault[dir]
}

// happened notes a fault; those of one frame are over with it.
func (n *Faulty) happened(dir int, f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.done++
	if f != Trickle && f != Mute && n.fault[dir] == f {
		n.fault[dir] = None
	}
}

// Dial implements relay.Network.
func (n *Faulty) Dial(ctx context.Context, to wire.Descriptor) (relay.Link, error) {
	l, err := n.Network.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	return &faultyLink{Link: l, n: n, over: make(chan struct{})}, nil
}

// faultyLink passes whole frames on, one Read or Write at a time in each
// direction.
type faultyLink struct {
	relay.Link
	n    *Faulty
	once sync.Once
	over chan struct{} // closed by Close and Reset

	in, out held
	got     []byte // of a frame that is being read
	rest    []byte // read, and not yet given away
}

// held is what a fault keeps of frames that have passed.
type held struct{ frame []byte }

// pass gives what goes on instead of a frame; false if the link ended.
func (l *faultyLink) pass(dir int, h *held, b []byte) ([]byte, bool) {
	f := l.n.is(dir, l.Peer())
	switch {
	case f == Corrupt:
		b[len(b)/3] ^= 8
	case f == Replay && h.frame == nil:
		h.frame = slices.Clone(b)
		return b, true
	case f == Replay:
		copy(b, h.frame)
	case f == Reorder && h.frame == nil:
		h.frame = slices.Clone(b)
		return nil, true
	case f == Reorder:
		b = append(b, h.frame...)
	case f == Trickle:
		t := time.NewTimer(l.n.Pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-l.over:
			return nil, false
		}
	case f == Mute:
		b = nil
	default:
		return b, true
	}
	h.frame = nil
	l.n.happened(dir, f)
	return b, true
}

// Read reads a whole frame first.
func (l *faultyLink) Read(b []byte) (int, error) {
	for len(l.rest) == 0 {
		if l.got == nil {
			l.got = make([]byte, 0, 2*wire.FrameSize)
		}
		k, err := l.Link.Read(l.got[len(l.got):wire.FrameSize])
		if l.got = l.got[:len(l.got)+k]; len(l.got) == wire.FrameSize {
			var ok bool
			if l.rest, ok = l.pass(In, &l.in, l.got); !ok {
				return 0, io.ErrClosedPipe
			}
			l.got = l.got[:0]
			continue
		}
		if err != nil {
			if l.n.is(In, l.Peer()) == Mute {
				<-l.over
			}
			return 0, err
		}
	}
	k := copy(b, l.rest)
	l.rest = l.rest[k:]
	return k, nil
}

// Write takes a whole frame.
func (l *faultyLink) Write(b []byte) (int, error) {
	c, ok := l.pass(Out, &l.out, append(make([]byte, 0, 2*len(b)), b...))
	if !ok {
		return 0, io.ErrClosedPipe
	}
	if len(c) > 0 {
		if _, err := l.Link.Write(c); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// Close implements relay.Link.
func (l *faultyLink) Close() error { return l.end(l.Link.Close) }

// Reset implements relay.Link.
func (l *faultyLink) Reset() error { return l.end(l.Link.Reset) }

// end ends the link for who dialled it; the other end does not hear of it if
// the link is mute.
func (l *faultyLink) end(end func() error) error {
	l.once.Do(func() { close(l.over) })
	if l.n.is(Out, l.Peer()) != Mute {
		return end()
	}
	l.SetReadDeadline(time.Unix(1, 0)) // who reads leaves
	return nil
}
