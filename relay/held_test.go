package relay

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// gate is a network whose links' readers can be halted, or let through a frame
// at a time.
type gate struct {
	Network
	link *gateLink
}

type gateLink struct {
	Link
	halted atomic.Pointer[chan struct{}] // each token lets one Read go on
}

func (l *gateLink) halt() { c := make(chan struct{}, 1); l.halted.Store(&c) }
func (l *gateLink) let()  { close(*l.halted.Load()) }

// step lets one Read go on, if one waits.
func (l *gateLink) step() {
	select {
	case *l.halted.Load() <- struct{}{}:
	default:
	}
}

func (g *gate) Dial(ctx context.Context, d wire.Descriptor) (Link, error) {
	l, err := g.Network.Dial(ctx, d)
	g.link = &gateLink{Link: l}
	return g.link, err
}

func (l *gateLink) Read(b []byte) (int, error) {
	if c := l.halted.Load(); c != nil {
		<-*c
	}
	return l.Link.Read(b)
}

// TestHeldByAttacker: whoever makes a relay hold many frames, and none of them
// for long without moving something, is who gives way when the pool is full:
// not a reader who halted for a moment.
func TestHeldByAttacker(t *testing.T) {
	const room = 40
	for name, attack := range map[string]func(t *testing.T, l *lone){
		// The beginnings of frames.
		"half frames": func(t *testing.T, l *lone) {
			for range 2 * room {
				p := l.path(t)
				if _, err := p.link.Link.Write(make([]byte, wire.TagSize+1)); err != nil {
					t.Error(err)
				}
				synctest.Wait()
			}
		},
		// One request in many cells of one byte.
		"small pieces": func(t *testing.T, l *lone) {
			p := l.path(t)
			p.send(wire.CmdAsk, 1, append(wire.AppendAsk(nil, 1000), 'x'))
			for range room / 4 {
				p.send(wire.CmdAsk, 1, []byte("x"))
			}
			for range room {
				time.Sleep(8 * time.Millisecond)
				p.send(wire.CmdAsk, 1, []byte("x"))
			}
		},
		// Long answers, of which a little is taken now and then.
		"answers": func(t *testing.T, l *lone) {
			g := &gate{Network: l}
			p, err := (&Builder{Network: g, Dead: time.Hour}).Build(context.Background(), []wire.Descriptor{l.d})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			g.link.halt()
			defer g.link.let()
			for i := range 50 {
				if i == 0 || i >= 36 && i < 40 { // one before the other circuit waits, and more after
					go p.Ask(context.Background(), []byte("long"))
				}
				time.Sleep(5 * time.Millisecond)
				g.link.step() // a part of a frame
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLone(t)
				l.r.cfg.Far = long{}
				l.r.pool.limit = room
				g := &gate{Network: l}
				victim, err := (&Builder{Network: g, Dead: time.Hour}).Build(context.Background(), []wire.Descriptor{l.d})
				if err != nil {
					t.Fatal(err)
				}
				defer victim.Close()
				done := make(chan struct{})
				go func() { defer close(done); attack(t, l) }()
				time.Sleep(150 * time.Millisecond) // the attack is under way
				g.link.halt()
				go victim.Ask(context.Background(), []byte("short"))
				time.Sleep(90 * time.Millisecond)
				for range 2 * room { // others come and go
					p := l.path(t)
					p.Ask(context.Background(), []byte("short"))
					p.Close()
				}
				<-done
				g.link.let()
				synctest.Wait()
				if err := victim.Err(); err != nil {
					t.Errorf("a circuit that waited for a moment: %v", err)
				}
			})
		})
	}
}

// long answers "long" with as much as there may be.
type long struct{}

func (long) Answer(_ context.Context, req []byte) ([]byte, error) {
	if string(req) == "long" {
		return make([]byte, wire.MaxAsk), nil
	}
	return req, nil
}
