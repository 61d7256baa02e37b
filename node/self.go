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

	mu   sync.Mutex
	desc wire.Descriptor // guarded by mu
	ok   bool            // guarded by mu
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
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ok = len(addrs) > 0 && onion != nil
	if onion == nil || o.desc.Onion != nil && *o.desc.Onion == *onion && slices.Equal(o.desc.Addrs, addrs) {
		return
	}
	issued := o.now().Truncate(time.Second)
	if last := o.desc.Issued; !issued.After(last) { // the newer one wins by its second
		issued = last.Add(time.Second)
	}
	d := wire.Descriptor{Onion: onion, Flags: flags, Issued: issued, Expires: expires.Truncate(time.Second), Addrs: addrs}
	if d.Sign(o.t.key, o.t.network) == nil {
		o.desc = d
	}
}

// held returns the descriptor without addresses, for the neighbours that this
// node keeps connections to; false while it can be dialled, does not know that
// yet, or does not relay.
func (o *ownDescriptor) held() (wire.Descriptor, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.desc, o.desc.Onion != nil && !o.ok && o.t.reach.String() == Private
}

// get returns the descriptor; false while this node cannot be dialled or does
// not relay.
func (o *ownDescriptor) get() (wire.Descriptor, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.desc, o.ok
}
