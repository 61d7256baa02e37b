package relay

import (
	"context"
	"testing"
	"testing/synctest"

	"wanderfs/relay/wire"
)

// TestBeyondCredit: a gateway ends the circuit of a reader who sends more than
// his credit, gives more than there may be, or goes on behind his END. The
// session, which reads nothing, and its path go on.
func TestBeyondCredit(t *testing.T) {
	x := newShared(t)
	deaf, _ := NewSession()
	pub := x.a.path(t)
	l, err := pub.Listen(context.Background(), deaf, [32]byte{sharedJoin})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer func() { cancel(); <-done }()
	go func() {
		defer close(done)
		for err := error(nil); err == nil; {
			_, err = l.Accept(ctx)
		}
	}()
	record := make([]byte, wire.TagSize)
	most := wire.AppendWindow(nil, wire.MaxWindow-wire.InitialWindow)
	type cells struct {
		cmd  wire.Command
		data []byte
		n    int
	}
	for name, c := range map[string]struct {
		fine []cells
		last wire.Command // ends the circuit
		data []byte
	}{
		"data beyond credit":  {[]cells{{wire.CmdData, record, wire.InitialWindow}}, wire.CmdData, record},
		"credit beyond 1024":  {[]cells{{wire.CmdWindow, most, 1}}, wire.CmdWindow, wire.AppendWindow(nil, 1)},
		"data behind the end": {[]cells{{wire.CmdEnd, record, 1}}, wire.CmdData, record},
		"two ends":            {[]cells{{wire.CmdEnd, record, 1}}, wire.CmdEnd, record},
	} {
		p := x.a.path(t)
		id, back := x.joinRaw(t, p, deaf)
		if got := <-back; got != wire.CmdJoined {
			t.Fatalf("%s: got command %d, want JOINED", name, got)
		}
		for _, f := range c.fine {
			for range f.n {
				if err := p.send(f.cmd, id, f.data); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
		if err := p.Ping(context.Background()); err != nil {
			t.Fatalf("%s: what is allowed: %v", name, err)
		}
		p.send(c.last, id, c.data)
		<-p.Done()
		x.lives(t)
		if err := pub.Ping(context.Background()); err != nil {
			t.Fatalf("%s: the standing path: %v", name, err)
		}
	}
}

// TestGatewayBeyondCredit: what a gateway lets through that it should not ends
// a reader's path. A session gives up the stream, and its path only for what no
// reader can bring about.
func TestGatewayBeyondCredit(t *testing.T) {
	end := make([]byte, wire.TagSize)
	for name, c := range map[string]struct {
		accept bool
		fine   wire.Command // 0: none
		last   wire.Command
		data   []byte
		reader bool // the reader's path ends
		pub    bool // the session's does
	}{
		"end before joined":  {false, 0, wire.CmdEnd, end, true, false},
		"two ends":           {true, wire.CmdEnd, wire.CmdEnd, end, true, false},
		"credit beyond 1024": {true, 0, wire.CmdWindow, wire.AppendWindow(nil, wire.MaxWindow-wire.InitialWindow+1), true, true},
		"credit up to 1024":  {true, 0, wire.CmdWindow, wire.AppendWindow(nil, wire.MaxWindow-wire.InitialWindow), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newLone(t)
				s, _ := NewSession()
				pub, p := a.path(t), a.path(t)
				l, err := pub.Listen(t.Context(), s, [32]byte{5})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{}, 2)
				go func() {
					if c.accept {
						l.Accept(ctx)
					}
					done <- struct{}{}
				}()
				go func() {
					p.Join(ctx, s.Keys(), [32]byte{5}, nil)
					done <- struct{}{}
				}()
				synctest.Wait()
				say := func(cmd wire.Command, data []byte) {
					a.r.mu.Lock()
					for circuit := range a.r.circuits {
						id := uint32(1)
						if circuit.far.listens != nil {
							id = 2
						}
						circuit.far.say(id, cmd, data)
					}
					a.r.mu.Unlock()
					synctest.Wait()
				}
				if c.fine != 0 {
					say(c.fine, c.data)
					if p.Err() != nil || pub.Err() != nil {
						t.Fatalf("what is allowed: %v, %v", p.Err(), pub.Err())
					}
				}
				say(c.last, c.data)
				if got := p.Err() != nil; got != c.reader {
					t.Errorf("the reader's path ended: %v, want %v", got, c.reader)
				}
				if got := pub.Err() != nil; got != c.pub {
					t.Errorf("the session's path ended: %v, want %v", got, c.pub)
				}
				cancel()
				<-done
				<-done
				l.Close()
			})
		})
	}
}
