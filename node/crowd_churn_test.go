package node

import (
	"slices"
	"testing"
)

// TestChurn: circuits are built, used in different ways and ended, one after
// the other and some at once; then the reader's process, the relay's and the
// publisher's have the goroutines and the heap that they had.
func TestChurn(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	limits := patient(roomyLimits())
	node := startCrowd(t, crowdSetup{Role: crowdNode, Limits: limits})
	first := node.ask(t, crowdAsk{Op: "descriptors"}).Relays[0]
	gateway := startCrowd(t, crowdSetup{Role: crowdRelays, Hosts: 1, Limits: limits})
	last := gateway.ask(t, crowdAsk{Op: "descriptors"}).Relays[0]
	publisher := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 1})
	reader := startCrowd(t, crowdSetup{Role: crowdUsers, Hosts: 1})
	const sessions = 3 // each opens 50 streams a second
	joined := publisher.ask(t, crowdAsk{Op: "publish", Ways: slices.Repeat([][][]byte{{last}}, sessions)}).Sessions
	q := crowdAsk{Op: "churn", Ways: [][][]byte{{first, last}}, Sessions: joined, At: 8}
	all := []*crowdProcess{node, gateway, publisher, reader}
	names := []string{"relay", "gateway", "publisher", "reader"}
	standing := []int{0, sessions, 0, 0} // circuits that stay: the sessions' paths at their gateway
	q.N = 100
	reader.ask(t, q)
	var before []crowdUse
	for i, p := range all {
		before = append(before, awaitCircuits(t, p, standing[i]))
	}
	q.N = *crowdSize
	if got := reader.ask(t, q); got.Failed > 0 {
		t.Errorf("%d of %d circuits failed: %v", got.Failed, q.N, got.Why)
	}
	for i, p := range all {
		backAtStart(t, names[i], p, before[i], standing[i], q.N)
	}
}
