package relay

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// TestRecordsWait: records open however long they have waited, over any
// number of epochs, and however much later the reader's epoch began.
func TestRecordsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tx, rx := newRecord(&[32]byte{1}, 10*time.Minute), newRecord(&[32]byte{1}, 0)
		var waiting [][]byte
		seal := func() {
			b, err := tx.seal(kindData, append(make([]byte, 0, 100), byte(len(waiting))))
			if err != nil {
				t.Fatal(err)
			}
			waiting = append(waiting, b)
		}
		read := 0
		open := func() {
			got, err := rx.open(kindData, nil, waiting[read])
			if err != nil || got[0] != byte(read) {
				t.Fatalf("record %d of %d: %v", read, len(waiting), err)
			}
			read++
		}
		for range 5 { // each in an epoch of its own, nobody reads
			seal()
			time.Sleep(10 * time.Minute)
		}
		for read < len(waiting) {
			open()
		}
		seal()
		time.Sleep(9 * time.Minute)
		open() // the reader's epoch begins nine minutes later than the sender's
		time.Sleep(time.Minute)
		seal()
		open()
		if tx.first != rx.first || rx.first != uint64(read-1) {
			t.Errorf("the last epoch began at %d and %d, want %d", tx.first, rx.first, read-1)
		}
		seal()
		seal()
		waiting[read] = waiting[read+1] // dropped on the way
		if _, err := rx.open(kindData, nil, waiting[read]); err == nil {
			t.Error("a record was opened in another's place")
		}
	})
}

// TestReaderStalls: a film is halted for an hour while more of it comes, a
// little every ten minutes, and then goes on.
func TestReaderStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		a := newLone(t)
		s, _ := NewSession()
		join := [32]byte{1}
		pub := a.path(t)
		l, err := pub.Listen(ctx, s, join)
		if err != nil {
			t.Fatal(err)
		}
		read := a.path(t)
		accepted := make(chan *Conn, 1)
		go func() {
			w, err := l.Accept(ctx)
			if err != nil {
				t.Error(err)
			}
			accepted <- w
		}()
		r, err := read.Join(ctx, s.Keys(), join, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := <-accepted
		for i := range 7 {
			if _, err := w.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10*time.Minute + time.Second)
		}
		if err := w.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || len(got) != 7 || got[6] != 6 {
			t.Errorf("got % x, %v", got, err)
		}
		read.Close()
		pub.Close()
		l.Close()
		a.r.Close()
	})
}

// TestLateFrameStartsEpoch: a relay's epoch begins when its first frame comes.
// If that one waited for minutes on a slow link, and the first of the next
// epoch did not, the relay goes on all the same.
func TestLateFrameStartsEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, _, fwd, _ := hopKeys(1)
		least := Limits{}.WithDefaults().Turn
		for i := range 3 {
			f := newFrame()
			fillCell(f, out.off(), byte(i))
			if err := out.seal(f); err != nil {
				t.Fatal(err)
			}
			if i == 1 {
				time.Sleep(8 * time.Minute) // on its way
			}
			turned, err := fwd[0].openOrTurn(f, least)
			if err != nil || turned != (i > 0) {
				t.Fatalf("frame %d: turned %v, %v", i, turned, err)
			}
			f.free()
			if i == 1 {
				time.Sleep(2 * time.Minute)
			} else {
				time.Sleep(10 * time.Minute)
			}
			out.turn()
		}
	})
}
