package main

import (
	stdbytes "bytes"
	"strings"
	"testing"
)

// The tests here run the others' scenarios with a defence switched off, and
// fail if that goes unnoticed.

func TestWithoutEncryptionTheTracesShow(t *testing.T) {
	w := newWorld(t, 0)
	w.without = "encryption"
	traces := strings.Join(watchTransfer(t, w), "\n")
	for _, want := range []string{
		"the content is readable on a wire", "the name is readable on a wire", "the query is readable on a wire",
		"the CID digest is readable on a wire", "the name is in index.db",
	} {
		if !strings.Contains(traces, want) {
			t.Errorf("not noticed: %s", want)
		}
	}
}

// TestDialableNodesExchangePackets lets both be dialled and relay, so that
// they meet as any two nodes do.
func TestDialableNodesExchangePackets(t *testing.T) {
	w := newWorld(t, 0)
	if traces := strings.Join(watchTransfer(t, w), "\n"); !strings.Contains(traces, "went directly between") {
		t.Error("not noticed: packets between reader and publisher")
	}
}

func TestWithoutVerificationLiesAreReturned(t *testing.T) {
	w := newWorld(t, 64)
	_, content, got, err := forge(t, w, "verification")
	if err != nil {
		t.Fatal(err)
	}
	if stdbytes.Equal(got, content) {
		t.Error("not noticed: forged bytes")
	}
}

func TestWithoutRepairAReadEnds(t *testing.T) {
	w := newWorld(t, 64)
	if err := longRead(t, w, "repair"); err == nil {
		t.Error("not noticed: paths died and nothing took their place")
	}
}

func TestWithoutSuccessorsAReadStops(t *testing.T) {
	w := newWorld(t, 64)
	r := readWhileRotating(t, w, "successors", 256<<20)
	if r.err == nil && r.longest <= rotateWait {
		t.Error("not noticed: the sessions ended and nothing succeeded them")
	}
}

func TestWithoutNewSessionsNumbersStay(t *testing.T) {
	w := newWorld(t, 64)
	w.without = "new numbers"
	if before, after, _ := restart(t, w); common(before, after) == 0 {
		t.Error("not noticed: a session number that outlived its process")
	}
}
