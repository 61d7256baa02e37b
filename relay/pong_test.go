package relay

import (
	"encoding/binary"
	"testing"
	"time"
)

// TestPongAnswersEarlierPings: a far end answers the last of several PINGs,
// and all who waited have their sign of life.
func TestPongAnswersEarlierPings(t *testing.T) {
	var l life
	l.init((&Builder{}).withDefaults())
	token := func(n uint64) (b [8]byte) {
		binary.BigEndian.PutUint64(b[:], n)
		return b
	}
	waits := map[uint64]chan struct{}{}
	for _, n := range []uint64{1, 255, 256, 257} {
		waits[n] = make(chan struct{})
		l.waits[token(n)] = waits[n]
	}
	l.asked, l.n = time.Now(), 257
	if err := l.pong(token(256)); err != nil {
		t.Fatal(err)
	}
	for n, c := range waits {
		answered := false
		select {
		case <-c:
			answered = true
		default:
		}
		if want := n <= 256; answered != want {
			t.Errorf("PONG 256: PING %d is answered: %v, want %v", n, answered, want)
		}
	}
}
