package wire

import (
	"crypto/ed25519"
	"errors"
	"testing"
	"time"
)

func testHeld(t testing.TB) (Held, ed25519.PrivateKey) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	d := testDescriptor(1)
	d.Addrs, d.Flags = nil, 0
	if err := d.Sign(key, "test"); err != nil {
		t.Fatal(err)
	}
	h := Held{Desc: d, Through: [HeldThrough]NodeID{{1}, {2}}}
	if err := h.Sign(key, "test"); err != nil {
		t.Fatal(err)
	}
	return h, key
}

func TestHeld(t *testing.T) {
	h, key := testHeld(t)
	now := h.Desc.Issued.Add(time.Minute)
	b, err := h.AppendBinary(nil)
	if err != nil || len(b) != HeldSize {
		t.Fatalf("got %d bytes, error %v", len(b), err)
	}
	back, err := ParseHeld(b)
	if err != nil || back.Sig != h.Sig || back.Through != h.Through || back.Verify("test", now) != nil {
		t.Fatalf("got another one back, error %v", err)
	}
	if err := h.Verify("other", now); !errors.Is(err, ErrBadSignature) {
		t.Errorf("in another network: got %v", err)
	}
	if err := h.Verify("test", h.Desc.Expires); !errors.Is(err, ErrExpired) {
		t.Errorf("after its time: got %v", err)
	}
	moved := h
	moved.Through[1] = NodeID{3}
	if err := moved.Verify("test", now); !errors.Is(err, ErrBadSignature) {
		t.Errorf("with another neighbour: got %v", err)
	}
	renewed := h
	renewed.Desc.Issued = renewed.Desc.Issued.Add(time.Second)
	if err := renewed.Desc.Sign(key, "test"); err != nil {
		t.Fatal(err)
	}
	if err := renewed.Verify("test", now); !errors.Is(err, ErrBadSignature) {
		t.Errorf("with another descriptor: got %v", err)
	}
	for what, change := range map[string]func(*Held){
		"addresses":      func(h *Held) { h.Desc.Addrs = testDescriptor(1).Addrs },
		"super node":     func(h *Held) { h.Desc.Flags = FlagSuper },
		"one neighbour":  func(h *Held) { h.Through[1] = h.Through[0] },
		"wrong order":    func(h *Held) { h.Through[0], h.Through[1] = h.Through[1], h.Through[0] },
		"no neighbour":   func(h *Held) { h.Through[0] = NodeID{} },
		"itself between": func(h *Held) { h.Through[0] = h.Desc.Node },
	} {
		bad := h
		change(&bad)
		if err := bad.Sign(key, "test"); err == nil {
			t.Errorf("%s: signed", what)
		}
		if _, err := bad.AppendBinary(nil); err == nil {
			t.Errorf("%s: encoded", what)
		}
	}
}

func FuzzHeld(f *testing.F) {
	h, _ := testHeld(f)
	b, _ := h.AppendBinary(nil)
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeld(b)
		if err != nil {
			return
		}
		h.Verify("test", epoch)
		got, err := h.AppendBinary(nil)
		same(t, got, b, err)
	})
}
