package node

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
)

const (
	// reachAfter is how long a node with peers and without any address to try
	// waits before it takes itself for undialable. A router is asked for a port
	// meanwhile, which takes up to 10 s.
	reachAfter = 20 * time.Second
	reachEvery = 5 * time.Second // between two looks

	strandedEvery = 2 * time.Second // between two looks for connections whose own address is gone; ours
)

// reachability is whether others can dial this node, as set or as found out:
// by AutoNAT v2, whose servers dial it back, or because it has no address that
// could be dialled (AutoNAT v2 asks about none then).
type reachability struct {
	mode  string
	found atomic.Int32 // a network.Reachability
}

func (r *reachability) init(mode string, lab bool) error {
	switch mode {
	case "", Auto:
		mode = Auto
		if lab {
			mode = Public
		}
	case Public, Private:
	default:
		return fmt.Errorf("reachability: not one of %s, %s, %s", Auto, Public, Private)
	}
	r.mode = mode
	return nil
}

// note takes what others found when they dialled this node back. It returns
// what that means, and whether it is news.
func (r *reachability) note(e event.EvtHostReachableAddrsChanged) (network.Reachability, bool) {
	v := network.ReachabilityUnknown
	switch {
	case len(e.Reachable) > 0:
		v = network.ReachabilityPublic
	case len(e.Unreachable) > 0:
		v = network.ReachabilityPrivate
	}
	return v, r.found.Swap(int32(v)) != int32(v) && r.mode == Auto
}

// noteNone takes that there is no address to try. It reports whether that is
// news.
func (r *reachability) noteNone() bool {
	return r.mode == Auto && r.found.CompareAndSwap(int32(network.ReachabilityUnknown), int32(network.ReachabilityPrivate))
}

func (r *reachability) public() bool {
	return r.mode == Public || r.mode == Auto && network.Reachability(r.found.Load()) == network.ReachabilityPublic
}

// String says public, private or unknown.
func (r *reachability) String() string {
	switch {
	case r.public():
		return Public
	case r.mode == Private || network.Reachability(r.found.Load()) == network.ReachabilityPrivate:
		return Private
	}
	return "unknown"
}
