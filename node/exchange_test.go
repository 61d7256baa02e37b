package node

import (
	"bytes"
	"testing"
	"time"

	"wanderfs/node/view/viewtest"
	"wanderfs/relay/wire"
)

func FuzzExchange(f *testing.F) {
	ds := []wire.Descriptor{viewtest.Relay(1, "10.1.0.1:1", 0, time.Unix(1e9, 0)), viewtest.Relay(2, "[fd00::1]:9", 1, time.Unix(1e9, 0))}
	f.Add(appendExchange(nil, exchange{kind: kindAnswer, ds: ds, held: []wire.Held{testHeld(f, 3, ds[0].Node, ds[1].Node)}}))
	f.Add(appendExchange(nil, exchange{kind: kindAsk}))
	f.Add([]byte{1, 2, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		e, err := readExchange(r)
		if err != nil {
			return
		}
		if got, want := appendExchange(nil, e), b[:len(b)-r.Len()]; !bytes.Equal(got, want) {
			t.Errorf("re-encoded differently")
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 7})
	f.Add([]byte{255, 0, 0, 1, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := readMessage(bytes.NewReader(b)); err == nil && len(m) > len(b) {
			t.Error("more bytes than there were")
		}
	})
}
