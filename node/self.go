package node

import (
	"slices"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// ownDescriptor is the descriptor that this node gives others, signed anew
// when anything in it changes: once an hour at least, as the onion key does,
// long before it expires. It is safe for concurrent use.
type ownDescriptor struct {
	t     *transport
	onion func() (*wire.PublicKey, time.Time) // key and end of it; nil: this node does not relay and has none
	now   func() time.Time

	signing sync.Mutex // held by refresh, also while it writes to disk
	issued  issued     // guarded by signing

	mu      sync.Mutex
	desc    wire.Descriptor // guarded by mu
	ok      bool            // desc is for all; guarded by mu
	forHeld bool            // desc has no addresses, and nothing else is to be told; guarded by mu
}

// refresh signs a new descriptor where one is due.
func (o *ownDescriptor) refresh() {
	if o.onion == nil {
		return
	}
	addrs := o.t.addrs()
	onion, expires := o.onion()
	var flags byte
	if len(addrs) > 0 {
		flags = wire.FlagSuper
	}
	o.signing.Lock()
	defer o.signing.Unlock()
	o.mu.Lock()
	d := o.desc
	o.mu.Unlock()
	isCurrent := func() bool {
		return onion != nil && d.Onion != nil && *d.Onion == *onion && slices.Equal(d.Addrs, addrs)
	}
	now := o.now()
	if onion != nil && !isCurrent() && (len(addrs) == 0 || o.issued.take(now)) { // else later, and nobody is told anything meanwhile
		at := now.Truncate(time.Second)
		if !at.After(d.Issued) { // the newer one wins by its second
			at = d.Issued.Add(time.Second)
		}
		next := wire.Descriptor{Onion: onion, Flags: flags, Issued: at, Expires: expires.Truncate(time.Second), Addrs: addrs}
		if next.Sign(o.t.key, o.t.network) == nil {
			d = next
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.desc, o.ok, o.forHeld = d, isCurrent() && len(addrs) > 0, isCurrent() && len(addrs) == 0
}

// held returns the descriptor without addresses, for the neighbours that this
// node keeps connections to; false while it can be dialled, does not know that
// yet, or does not relay.
func (o *ownDescriptor) held() (wire.Descriptor, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.desc, o.forHeld && o.t.reach.String() == Private
}

// get returns the descriptor; false while this node cannot be dialled, does not
// relay, or has signed too many of late.
func (o *ownDescriptor) get() (wire.Descriptor, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.desc, o.ok
}
