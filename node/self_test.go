package node

import (
	"testing"
	"time"

	"wanderfs/relay/wire"
)

// The descriptor names the onion key of the hour, and ends before that does; a
// newer one wins also if it is made in the same second.
func TestDescriptorFollowsOnionKey(t *testing.T) {
	m := startMesh(t, labConfig(t))
	now := time.Now()
	key, end := &wire.PublicKey{1}, now.Add(wire.OnionLife-5*time.Minute)
	o := &ownDescriptor{t: m.t, now: func() time.Time { return now }, onion: func() (*wire.PublicKey, time.Time) { return key, end }}
	get := func() wire.Descriptor {
		t.Helper()
		o.refresh()
		d, ok := o.get()
		if !ok {
			t.Fatal("no descriptor")
		}
		if err := d.Verify(m.t.network, now); err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := get()
	if *first.Onion != *key || first.Expires.After(end) {
		t.Errorf("got another key, or an end %v late", first.Expires.Sub(end))
	}
	if again := get(); again.Sig != first.Sig {
		t.Error("signed anew though nothing changed")
	}
	key, end = &wire.PublicKey{2}, end.Add(wire.OnionTurn)
	now = now.Add(wire.OnionTurn)
	second := get()
	if *second.Onion != *key || !second.Issued.After(first.Issued) || second.Expires.Sub(first.Expires) != wire.OnionTurn {
		t.Errorf("the new key is not told")
	}
	key = &wire.PublicKey{3}
	if third := get(); !third.Issued.After(second.Issued) {
		t.Error("two descriptors of one second")
	}
	key = nil
	o.refresh()
	if _, ok := o.get(); ok {
		t.Error("a relay that was closed still has a descriptor")
	}
}
