package mux

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// TestConnectionEndIsNoDeadline: when a connection ends because its other
// side is silent or takes nothing, its streams' calls do not say that a
// deadline of their own has passed: who reads again then would wait for ever.
func TestConnectionEndIsNoDeadline(t *testing.T) {
	for name, take := range map[string]bool{"silent": true, "takes nothing": false} {
		synctest.Test(t, func(t *testing.T) {
			m, y := bubbled(t)
			if take {
				go io.Copy(io.Discard, y)
			}
			s, err := m.OpenStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Read(make([]byte, 1))
			if err == nil || timedOut(err) {
				t.Errorf("%s: Read gave %v, want the connection's end", name, err)
			}
			if _, err = m.OpenStream(t.Context()); err == nil || timedOut(err) {
				t.Errorf("%s: OpenStream gave %v, want the connection's end", name, err)
			}
		})
	}
}

func timedOut(err error) bool {
	var e interface{ Timeout() bool }
	return errors.As(err, &e) && e.Timeout()
}

// TestSlowMessage: a message that takes long is a sign of life.
func TestSlowMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, y := bubbled(t)
		go io.Copy(io.Discard, y)
		y.Write(msg(msg(nil, typeWindow, flagSYN, 1, 0), typeData, 0, 1, 100_000))
		for range 10 {
			time.Sleep(silenceMost / 5) // virtual: how slow the other side is
			if _, err := y.Write(make([]byte, 10_000)); err != nil {
				t.Fatal("the connection ended while a message came")
			}
		}
		if m.IsClosed() {
			t.Error("the connection ended while a message came")
		}
	})
}

// TestAnswersWait: who opens streams and resets them, and reads nothing, is
// not read either once so much waits for it.
func TestAnswersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, y := bubbled(t)
		go func() {
			for {
				if _, err := m.AcceptStream(); err != nil {
					return
				}
			}
		}()
		var b []byte
		go func() {
			for i := uint32(0); ; i++ {
				b = msg(b[:0], typeWindow, flagSYN, 2*i+1, 0)
				b = msg(b, typeWindow, flagRST, 2*i+1, 0)
				if _, err := y.Write(b); err != nil {
					return
				}
				if i > 4*queueMost/headSize {
					return
				}
			}
		}()
		synctest.Wait()
		m.mu.Lock()
		got, want := len(m.queue), queueMost+(backlog+2)*headSize
		m.mu.Unlock()
		if got > want {
			t.Errorf("%d bytes of answers wait, want at most %d", got, want)
		}
	})
}
