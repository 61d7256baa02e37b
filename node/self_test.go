package node

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"wanderfs/node/view"
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

// A machine that starts its node again and again does not make others distrust
// it: what it tells them pauses, over all starts, and goes on by itself.
func TestManyStarts(t *testing.T) {
	m := startMesh(t, labConfig(t))
	dir := t.TempDir()
	now := time.Now()
	clock := func() time.Time { return now }
	v := view.New(wire.NodeID{1}, m.t.network, view.Policy{Lab: true}, clock)
	var o *ownDescriptor
	starts := byte(0)
	start := func() {
		starts++
		key := &wire.PublicKey{starts}
		o = &ownDescriptor{t: m.t, now: clock, issued: readIssued(filepath.Join(dir, issuedFile)),
			onion: func() (*wire.PublicKey, time.Time) { return key, now.Add(wire.OnionLife) }}
	}
	believed := func() bool { _, ok := usable(v, m.t.id); return ok }
	told := 0
	hear := func() bool {
		o.refresh()
		d, ok := o.get()
		if ok {
			told++
			v.Add(d, m.t.id)
		}
		if _, held := o.held(); held {
			t.Error("a node that can be dialled is held")
		}
		return ok
	}
	for range 3 * view.MaxVersions {
		start()
		hear()
		now = now.Add(3 * time.Minute)
		if !believed() {
			t.Fatalf("not believed after %d starts", starts)
		}
	}
	if told != ownVersions {
		t.Errorf("told %d descriptors, want %d", told, ownVersions)
	}
	begin := now
	for !hear() {
		if now = now.Add(time.Minute); now.Sub(begin) > ownVersionsFor {
			t.Fatal("it does not go on")
		}
	}
	if !believed() {
		t.Error("not believed after the pause")
	}
	for range 3 * ownVersions { // nothing new to tell
		if !hear() {
			t.Fatal("it took its descriptor back")
		}
	}

	for range view.MaxVersions + 1 {
		start()
		o.issued = issued{}
		hear()
		now = now.Add(time.Minute)
	}
	if believed() {
		t.Error("without the pause nobody would mind")
	}
}

func FuzzIssued(f *testing.F) {
	f.Add([]byte("1700000000\n"))
	f.Add([]byte("x\n-5\n99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := filepath.Join(t.TempDir(), issuedFile)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		i := readIssued(file)
		now := time.Unix(1_700_000_000, 0)
		if i.take(now) {
			if again := readIssued(file); len(again.at) != len(i.at) || len(i.at) > ownVersions {
				t.Fatalf("wrote %d, read %d", len(i.at), len(again.at))
			}
		}
	})
}
