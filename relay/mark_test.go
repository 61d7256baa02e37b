package relay

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// TestNoMarks: a far end cannot send its builder a frame more than the builder
// has asked for: a number of them that mean nothing would be a mark, which a
// relay nearer to the builder sees and the builder does not.
func TestNoMarks(t *testing.T) {
	old := [8]byte{7: 1}
	for name, c := range map[string]struct {
		cmd  wire.Command
		id   uint32
		data []byte
	}{
		"pong, once more":      {wire.CmdPong, 0, old[:]},
		"pong of a later ping": {wire.CmdPong, 0, []byte{0, 0, 0, 1, 0, 0, 0, 0}},
		"answer":               {wire.CmdAnswer, 3, make([]byte, 5)},
		"window":               {wire.CmdWindow, 7, []byte{0, 0, 0, 1}},
		"reset":                {wire.CmdReset, 5, []byte{0}},
		"reset of a listen":    {wire.CmdReset, 1, []byte{1, 2}},
		"listening with data":  {wire.CmdListening, 1, []byte{1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLone(t)
				p, err := (&Builder{Network: l, Quiet: time.Hour}).Build(context.Background(), []wire.Descriptor{l.d})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				for range 3 { // PINGs and their answers mark nothing
					if err := p.Ping(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if c.id == 1 {
					p.streams[1] = &Listener{p: p, done: make(chan struct{}), said: make(chan error, 1)} // it has asked, and waits
				}
				l.r.mu.Lock()
				for circuit := range l.r.circuits {
					circuit.far.say(c.id, c.cmd, c.data)
				}
				l.r.mu.Unlock()
				synctest.Wait()
				if p.Err() == nil {
					t.Error("the path goes on")
				}
			})
		})
	}
}

// TestNoMarksOnStreams: nor can it add frames to those of a stream: a second
// answer to JOIN, or anything behind its own word that the stream is over.
func TestNoMarksOnStreams(t *testing.T) {
	window := wire.AppendWindow(nil, 1)
	for name, c := range map[string]struct {
		accept bool // the session answers
		end    wire.Command
		ending []byte // data of end; nil: the stream goes on
		cmd    wire.Command
		data   []byte
	}{
		"joined, once more":       {true, 0, nil, wire.CmdJoined, make([]byte, wire.WelcomeSize)},
		"window behind a reset":   {true, wire.CmdReset, []byte{byte(wire.ReasonLost)}, wire.CmdWindow, window},
		"window behind a refusal": {false, wire.CmdReset, []byte{byte(wire.ReasonRefused)}, wire.CmdWindow, window},
		"joined behind a refusal": {false, wire.CmdReset, []byte{byte(wire.ReasonRefused)}, wire.CmdJoined, make([]byte, wire.WelcomeSize)},
		"window behind a puzzle":  {false, wire.CmdPuzzle, append([]byte{1}, make([]byte, 32)...), wire.CmdWindow, window},
		"two resets":              {true, wire.CmdReset, []byte{byte(wire.ReasonLost)}, wire.CmdReset, []byte{0}},
		"end behind a reset":      {true, wire.CmdReset, []byte{byte(wire.ReasonLost)}, wire.CmdEnd, make([]byte, wire.TagSize)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLone(t)
				b := &Builder{Network: l, Quiet: time.Hour}
				path := func() *Path {
					p, err := b.Build(t.Context(), []wire.Descriptor{l.d})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { p.Close() })
					return p
				}
				s, _ := NewSession()
				listener, err := path().Listen(t.Context(), s, [32]byte{5})
				if err != nil {
					t.Fatal(err)
				}
				if c.accept {
					go listener.Accept(t.Context())
				}
				p := path()
				ctx, cancel := context.WithCancel(t.Context())
				joined := make(chan struct{})
				go func() {
					defer close(joined)
					p.Join(ctx, s.Keys(), [32]byte{5}, nil)
				}()
				synctest.Wait()
				say := func(cmd wire.Command, data []byte) {
					l.r.mu.Lock()
					for circuit := range l.r.circuits {
						if circuit.far.listens == nil {
							circuit.far.say(1, cmd, data)
						}
					}
					l.r.mu.Unlock()
					synctest.Wait()
				}
				if c.ending != nil {
					say(c.end, c.ending)
				}
				if err := p.Err(); err != nil {
					t.Fatalf("before the mark: %v", err)
				}
				say(c.cmd, c.data)
				if p.Err() == nil {
					t.Error("the path goes on")
				}
				cancel()
				<-joined
				listener.Close()
			})
		})
	}
}
