package node

import (
	"fmt"
	"testing"
	"time"

	"wanderfs/relay/wire"
)

// again returns a further descriptor of relay n, signed seconds later.
func again(n int, addr string, issued time.Time, onion byte) wire.Descriptor {
	d := testRelay(n, addr, wire.FlagSuper, issued)
	d.Onion = &wire.PublicKey{byte(n), onion}
	if err := d.Sign(testKey(n), testNetwork); err != nil {
		panic(err)
	}
	return d
}

// addCrowd lets v meet n relays that have not changed.
func addCrowd(v *view, n int, now time.Time) {
	for i := range n {
		d := testRelay(100+i, fmt.Sprintf("10.%d.0.1:1", 100+i), wire.FlagSuper, now)
		v.add(d, d.Node)
	}
}

// In a small network that starts anew, everybody is used again at once.
func TestFewRelaysAreUsedAtOnceAfterARestart(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	v := testView(func() time.Time { return now })
	addCrowd(v, minSettled-1, now)
	old := again(3, "10.3.0.1:1", now.Add(-time.Minute), 0)
	v.add(old, old.Node)
	young := again(3, "10.3.0.1:1", now, 1)
	v.add(young, young.Node)
	if d, _ := v.settled(old.Node); d.Onion[1] != 1 {
		t.Error("a relay that started anew is asked with its old key")
	}
}

// A relay that gives this node a descriptor of its own does not get it used
// before others have it, too: a path built with it would name its builder.
func TestDescriptorOfOnesOwnIsNotUsedAtOnce(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	v := testView(func() time.Time { return now })
	common := again(3, "10.3.0.1:1", now.Add(-time.Minute), 0)
	v.add(common, wire.NodeID{8}) // heard of from another
	addCrowd(v, minSettled, now)
	c := testChooser(t, v, nil)
	used := func() map[byte]bool {
		keys := make(map[byte]bool)
		for range 200 {
			hops, err := c.path(4, true)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range hops[1:] {
				if h.Node == common.Node {
					keys[h.Onion[1]] = true
				}
			}
		}
		return keys
	}
	for i := byte(1); i <= 3; i++ { // more than one in a row do not help it
		own := again(3, "10.3.0.1:1", now, i)
		v.add(own, own.Node)
		if got := used(); len(got) != 1 || !got[0] {
			t.Fatalf("paths use the onion keys %v, want only the first", got)
		}
		if got, _ := v.lookup(common.Node); got.Onion[1] != i {
			t.Fatal("the newest is not passed on")
		}
		now = now.Add(time.Minute)
	}
	now = now.Add(adoptAfter)
	if got := used(); len(got) != 1 || !got[3] {
		t.Errorf("paths use the onion keys %v, want the newest by now", got)
	}
}

// When the first descriptor ends, the newer one is used at once.
func TestNoDescriptorIsUsedBeyondItsEnd(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	v := testView(func() time.Time { return now })
	addCrowd(v, minSettled, now)
	old := again(3, "10.3.0.1:1", now.Add(-wire.OnionLife+5*time.Minute), 0)
	v.add(old, old.Node)
	young := again(3, "10.3.0.1:1", now, 1)
	v.add(young, young.Node)
	if d, _ := v.settled(old.Node); d.Onion[1] != 0 {
		t.Error("the newer one is used at once")
	}
	now = now.Add(4*time.Minute + time.Second)
	if d, _ := v.settled(old.Node); d.Onion[1] != 1 {
		t.Error("a descriptor is used that ends in a moment")
	}
}

// Who gives everybody another descriptor is found out, as these meet: nothing
// it signs is believed then. One that turns its key each hour, and starts anew
// now and then, is left alone.
func TestWhoSignsTooMuchIsNotBelieved(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	v := testView(func() time.Time { return now })
	for i := range byte(maxVersions + 1) {
		d := again(3, "10.3.0.1:1", now.Add(-time.Duration(i)*time.Second), i) // older ones count, too
		v.add(d, wire.NodeID{8, i})
		_, known := v.lookup(d.Node)
		if want := int(i) < maxVersions; known != want {
			t.Fatalf("after %d descriptors: known %v, want %v", i+1, known, want)
		}
	}
	d := again(3, "10.3.0.1:1", now.Add(time.Second), 99)
	if v.add(d, d.Node); len(v.sample(9)) != 0 || len(v.usable()) != 0 {
		t.Error("it is believed again")
	}
	now = now.Add(versionsFor)
	v.expire()
	d = again(3, "10.3.0.1:1", now, 100)
	if v.add(d, d.Node); len(v.usable()) != 1 {
		t.Error("it is not believed though its time is over")
	}

	for hour := range 24 {
		for i := range byte(3) { // it starts three times in each hour
			d := again(4, "10.4.0.1:1", now, 3*byte(hour)+i)
			if v.add(d, d.Node); len(v.usable()) == 0 {
				t.Fatal("an honest relay is not believed")
			}
			now = now.Add(20 * time.Minute)
		}
	}
}
