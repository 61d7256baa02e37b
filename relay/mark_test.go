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
		"window":               {wire.CmdWindow, 1, []byte{0, 0, 0, 1}},
		"reset":                {wire.CmdReset, 5, []byte{0}},
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
