package view

import (
	"fmt"
	"testing"
	"time"

	"wanderfs/node/view/viewtest"
	"wanderfs/relay/wire"
)

// addCrowd lets v meet n relays that have not changed.
func addCrowd(v *View, n int, now time.Time) {
	for i := range n {
		d := viewtest.Relay(100+i, fmt.Sprintf("10.%d.0.1:1", 100+i), wire.FlagSuper, now)
		v.Add(d, d.Node)
	}
}

// In a small network that starts anew, everybody is used again at once.
func TestFewRelaysAreUsedAtOnceAfterARestart(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	v := testView(func() time.Time { return now })
	addCrowd(v, minSettled-1, now)
	old := viewtest.Again(3, "10.3.0.1:1", now.Add(-time.Minute), 0)
	v.Add(old, old.Node)
	young := viewtest.Again(3, "10.3.0.1:1", now, 1)
	v.Add(young, young.Node)
	if d, _ := v.Settled(old.Node); d.Onion[1] != 1 {
		t.Error("a relay that started anew is asked with its old key")
	}
}

// When the first descriptor ends, the newer one is used at once.
func TestNoDescriptorIsUsedBeyondItsEnd(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	v := testView(func() time.Time { return now })
	addCrowd(v, minSettled, now)
	old := viewtest.Again(3, "10.3.0.1:1", now.Add(-wire.OnionLife+5*time.Minute), 0)
	v.Add(old, old.Node)
	young := viewtest.Again(3, "10.3.0.1:1", now, 1)
	v.Add(young, young.Node)
	if d, _ := v.Settled(old.Node); d.Onion[1] != 0 {
		t.Error("the newer one is used at once")
	}
	now = now.Add(4*time.Minute + time.Second)
	if d, _ := v.Settled(old.Node); d.Onion[1] != 1 {
		t.Error("a descriptor is used that ends in a moment")
	}
}

// Who gives everybody another descriptor is found out, as these meet: nothing
// it signs is believed then. One that turns its key each hour, and starts anew
// now and then, is left alone.
func TestWhoSignsTooMuchIsNotBelieved(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	v := testView(func() time.Time { return now })
	for i := range byte(MaxVersions + 1) {
		d := viewtest.Again(3, "10.3.0.1:1", now.Add(-time.Duration(i)*time.Second), i) // older ones count, too
		v.Add(d, wire.NodeID{8, i})
		_, known := v.Lookup(d.Node)
		if want := int(i) < MaxVersions; known != want {
			t.Fatalf("after %d descriptors: known %v, want %v", i+1, known, want)
		}
	}
	d := viewtest.Again(3, "10.3.0.1:1", now.Add(time.Second), 99)
	if v.Add(d, d.Node); len(v.Sample(9)) != 0 || len(v.Usable()) != 0 {
		t.Error("it is believed again")
	}
	now = now.Add(VersionsFor)
	v.Expire()
	d = viewtest.Again(3, "10.3.0.1:1", now, 100)
	if v.Add(d, d.Node); len(v.Usable()) != 1 {
		t.Error("it is not believed though its time is over")
	}

	for hour := range 24 {
		for i := range byte(3) { // it starts three times in each hour
			d := viewtest.Again(4, "10.4.0.1:1", now, 3*byte(hour)+i)
			if v.Add(d, d.Node); len(v.Usable()) == 0 {
				t.Fatal("an honest relay is not believed")
			}
			now = now.Add(20 * time.Minute)
		}
	}
}
